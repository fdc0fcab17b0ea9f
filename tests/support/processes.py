"""What processes that no test started itself do, any of which may end meanwhile."""

import time

import psutil

PATIENCE_SECONDS = 30.0


def ended(process: int) -> bool:
    """Whether a process has ended (a killed orphan may wait to be reaped)."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def ends(process: int) -> bool:
    """Whether a process ends soon: when one that was killed is gone is for the system to say."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not ended(process) and time.monotonic() < patience:
        time.sleep(0.01)
    return ended(process)


def command_of(process: psutil.Process) -> list[str]:
    """The words of a process's command; none once it has ended."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
