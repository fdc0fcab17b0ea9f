"""Who started a container, as a label: so that what a killed client left can be recognised."""

import os
from pathlib import Path

LABEL = "org.mlcommons.medperf.owner"


def this_process() -> str:
    """A name for this process that no other process of any machine has, also after a restart."""
    pid = os.getpid()
    return "/".join([*_place(), str(pid), _started(pid)])


def is_gone(owner: str) -> bool:
    """Whether the process of that name has ended.

    False whenever that cannot be known from here: another machine, another PID namespace.
    """
    try:
        host, boot, namespace, pid, started = owner.split("/")
    except ValueError:
        return False
    here, this_boot, this_namespace = _place()
    if host != here or not this_boot:
        return False
    if boot != this_boot:
        return True
    if namespace != this_namespace:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # A mount option can hide other users' processes: those live, kill() has just said so.
    return _started(int(pid)) not in ("", started)


def _place() -> tuple[str, str, str]:
    """Host, its boot, and the PID namespace; the latter two empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        boot = namespace = ""
    return os.uname().nodename, boot, namespace


def _started(pid: int) -> str:
    """When a process started, in clock ticks after boot: field 22 of proc_pid_stat(5)."""
    try:
        # The second field is a name in parentheses, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
