"""Control groups of a task's own: what the kernel bounds as a whole, where this user may ask."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from medperf_cache.scratch import lock
from medperf_client.errors import ContainerFailed

ROOT = Path("/sys/fs/cgroup")
PREFIX = "medperf-"
# By controller, the files that a bound goes to, in this order; each of one version of groups.
MEMORY, PIDS = "memory", "pids"
_FILES = {
    # Memory and swap together: no swap beside the memory.
    MEMORY: ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    PIDS: ("pids.max",),
}
_NO_SWAP = "memory.swap.max"
_EVENTS = ("memory.events", "memory.oom_control")


def places() -> dict[str, Path]:
    """The group below which one of one's own may be made, by controller."""
    delegated = ROOT / "cgroup.subtree_control"
    if delegated.exists():
        found = dict.fromkeys(delegated.read_text().split(), ROOT)
    else:
        found = {name: ROOT / name for name in _FILES}
    return {
        name: folder
        for name, folder in found.items()
        if name in _FILES and os.access(folder, os.W_OK)
    }


@contextmanager
def bounded(memory_bytes: int | None, pids: int) -> Iterator[list[Path]]:
    """New groups with these bounds, where any may be made; gone after the block.

    Until then nobody sweeps them, whether or not a process is in them already. Raises
    `ContainerFailed` where the kernel refuses one all the same.
    """
    name, groups, locks = f"{PREFIX}{uuid4().hex}", list[Path](), list[int]()
    try:
        for controller, place in places().items():
            bound = {MEMORY: memory_bytes, PIDS: pids}[controller]
            if bound is not None:
                group = place / name
                try:
                    # Two controllers may have one group.
                    if group not in groups:
                        locks.append(_made(group))
                        groups.append(group)
                    _bound(group, controller, bound)
                except OSError as error:
                    said = f"no task can be held to {controller} {bound}: {group}: {error.strerror}"
                    raise ContainerFailed(said) from error
        yield groups
    finally:
        for group in groups:
            with suppress(OSError):
                group.rmdir()
        for descriptor in locks:
            os.close(descriptor)


def _made(group: Path) -> int:
    """Make a group; the descriptor that holds its lock."""
    while True:
        group.mkdir(exist_ok=True)
        descriptor = lock(group, wait=True)
        if descriptor is not None:
            if group.exists():
                return descriptor
            # A sweep came between making and locking it.
            os.close(descriptor)


def _bound(group: Path, controller: str, bound: int) -> None:
    for file in _FILES[controller]:
        if (group / file).exists():
            (group / file).write_text(str(bound))
    if controller == MEMORY and (group / _NO_SWAP).exists():
        (group / _NO_SWAP).write_text("0")


def ran_out(groups: list[Path]) -> bool:
    """Whether a process in these groups was killed for want of memory."""
    files = (group / name for group in groups for name in _EVENTS)
    lines = (line for file in files if file.exists() for line in file.read_text().splitlines())
    return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)


def sweep() -> None:
    """Delete the groups of processes that are gone."""
    for place in places().values():
        for group in place.glob(f"{PREFIX}*"):
            descriptor = lock(group, wait=False)
            if descriptor is not None:
                # One in which there is somebody stays.
                with suppress(OSError):
                    group.rmdir()
                os.close(descriptor)
