"""Start a command apart from what it may not harm.

`python launch.py FILE DESCRIPTOR` runs in a process of its own. For a process container it becomes
the command, whose inputs are where it cannot harm what they are of. For a container's platform it
waits for the command, whose processes all end with it. It takes nothing but Python's own modules.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn

# Of linux/sched.h, linux/mount.h and sys/statvfs.h.
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 0x20, 0x1000, 0x4000, 0x80000
# Of linux/prctl.h.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MNT_DETACH = 2
# What was mounted without these may not be had with them: as statvfs() and as mount() count them.
KEPT = {0x2: 0x2, 0x4: 0x4, 0x8: 0x8, 0x400: 0x400, 0x800: 0x800, 0x1000: 0x200000}
NOT_STARTED = 126

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(source: str | None, target: str, flags: int, kind: bytes | None = None) -> None:
    encoded = None if source is None else os.fsencode(source)
    _call("mount", encoded, os.fsencode(target), kind, ctypes.c_ulong(flags), None)


def enter(more: int = 0) -> None:
    """Have mounts of this process's own, and `more`. Raises `OSError` where it may not.

    Who is not root is alone in a namespace of users, as itself, and gives up on `exec` what it
    may do there: the command cannot undo what was mounted.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWNS | (CLONE_NEWUSER if user else 0) | more)
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount(None, "/", MS_REC | MS_SLAVE)


def may_enter() -> bool:
    """Whether `enter` would work, found out in a child: half of it could not be taken back."""
    child = os.fork()
    if child == 0:
        try:
            enter()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def mounted(source: str, target: str) -> bool:
    """Whether a file or folder could be made to be at `target` too, read-only there."""
    try:
        if os.path.isdir(source):
            os.mkdir(target)
        else:
            open(target, "x").close()
        _mount(source, target, MS_BIND | MS_REC)
    except OSError:
        _forget(target)
        return False
    flags = os.statvfs(target).f_flag
    kept = sum(mount for status, mount in KEPT.items() if flags & status)
    try:
        _mount(None, target, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)
    except OSError:
        _call("umount2", os.fsencode(target), MNT_DETACH)
        _forget(target)
        return False
    return True


def _forget(target: str) -> None:
    if os.path.isdir(target):
        os.rmdir(target)
    elif os.path.exists(target):
        os.unlink(target)


def copied(source: str, target: str) -> None:
    """Put a copy at `target` that its owner can write to."""
    if not os.path.isdir(source):
        shutil.copyfile(source, target)
        return
    shutil.copytree(source, target, symlinks=True)
    for folder, _, files in os.walk(target):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if not os.path.islink(path):
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | stat.S_IWUSR)


def alone(task: dict[str, Any], descriptor: int) -> int:
    """Run a command all of whose processes end with it, and with this one; its exit code.

    Together they are in the control groups `groups`, and are no more than `pids` (None: no bound)
    where this machine allows a namespace of processes, and who asks is not root.
    """
    for group in task["groups"]:
        Path(group, "cgroup.procs").write_text("0")
    is_apart = may_enter()
    if is_apart:
        enter(CLONE_NEWPID)
    else:
        _call("prctl", PR_SET_CHILD_SUBREAPER, 1)
    lives, end = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(end)
        _be_first(task, lives, descriptor, is_apart)
    # Whoever stops this waits for it, and so for all below.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
    status = os.waitpid(first, 0)[1]
    if not is_apart:
        _end_the_rest()
    return _exit_code(status)


def _be_first(task: dict[str, Any], lives: int, descriptor: int, is_apart: bool) -> NoReturn:
    """Start the command, as process 1 of a namespace if `is_apart`, and reap until it has ended.

    From `lives` comes the end once the process above has ended.
    """
    status = NOT_STARTED << 8
    try:
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([lives], [], [], 0)[0]:
            os._exit(NOT_STARTED)
        if is_apart:
            _mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"proc")
            _bound_processes(task["pids"])
        command = task["command"]
        started, ended = os.posix_spawn(command[0], command, task["environment"]), 0
        while ended != started:
            ended, status = os.wait()
    except OSError as error:
        said = f"{error.filename or task['command'][0]}: {error.strerror}"
        os.write(descriptor, os.fsencode(said))
    finally:
        os._exit(_exit_code(status))


def _bound_processes(most: int | None) -> None:
    """So many may be in this namespace of users, whatever its user runs beside it."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if most is not None and (hard == resource.RLIM_INFINITY or most < hard):
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _end_the_rest() -> None:
    """Kill what is left below this process, which is given whoever loses a parent there."""
    while True:
        for stat_file in Path("/proc").glob("[0-9]*/stat"):
            # Another's may end meanwhile.
            with contextlib.suppress(OSError):
                # The second field is a name in parentheses, which may hold anything.
                _, parent = stat_file.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid():
                    os.kill(int(stat_file.parent.name), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _exit_code(status: int) -> int:
    """What a shell says: more than 128 of who was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main(file: str, descriptor: str) -> int:
    """Run the command that a file describes; if it cannot be started, say why to a descriptor."""
    os.set_inheritable(int(descriptor), False)
    task = json.loads(Path(file).read_text())
    command = task["command"]
    try:
        if "pids" in task:
            return alone(task, int(descriptor))
        is_apart = may_enter()
        if is_apart:
            enter()
        for source, target, is_kept in task["inputs"]:
            if is_apart and mounted(source, target):
                continue
            if is_kept:
                copied(source, target)
            else:
                os.symlink(source, target)
        os.execvpe(command[0], command, task["environment"])  # nosec B606
    except OSError as error:
        said = f"{error.filename or command[0]}: {error.strerror}"
        os.write(int(descriptor), os.fsencode(said))
    return NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
