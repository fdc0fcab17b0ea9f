"""What steps took: time, memory, and where; measured by the process that did them."""

import os
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any

from medperf_client.containers.cgroups import ROOT

# Platforms whose processes are children of the step; those of an engine are not.
OF_CHILDREN = ("process", "apptainer")
# What memory is counted of.
JOB, PROCESS = "job", "process"
# How the queue calls this job, and this node, in a job's environment.
JOB_VARIABLE, NODE_VARIABLE = "SLURM_JOB_ID", "SLURMD_NODENAME"
# In the two versions of control groups: below which folder they are, and what has the peak.
_UNIFIED, _OWN = (ROOT, "memory.peak"), (ROOT / "memory", "memory.max_usage_in_bytes")
NODE_CHARACTERS = 255
# Of anything that is counted here.
MOST = 1e18


@dataclass(frozen=True)
class Used:
    """What a step took; None is what nobody could measure.

    `seconds` is wall time, with what was copied for it; `cpu_seconds` that of all its processes.
    `memory_bytes` is the peak by the end of the step, since the process that did it began. With
    `memory_of` "job" it is that of the queue's job, as the kernel holds it to its limit: of all
    processes together, and of files that they read, for which the kernel makes room before it
    kills anybody. With "process" it is the resident memory of the largest process, less than all
    together had. Of an engine's containers neither is known. `waited_seconds` is the time from
    when the job was sent until it began, `asked_seconds` and `asked_bytes` are what it asked for.
    """

    seconds: float
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_of: str | None = None
    node: str | None = None
    waited_seconds: float | None = None
    asked_seconds: int | None = None
    asked_bytes: int | None = None

    @property
    def memory_share(self) -> float | None:
        """How much of the memory that it asked for it took."""
        if self.memory_bytes is None or not self.asked_bytes:
            return None
        return self.memory_bytes / self.asked_bytes

    def record(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    @classmethod
    def read(cls, given: object) -> "Used | None":
        """What `record` gave, whoever wrote it since; None for anything else."""
        if not isinstance(given, dict):
            return None
        found: dict[str, Any] = {one.name: given.get(one.name) for one in fields(cls)}
        memory_of, node = found.pop("memory_of"), found.pop("node")
        is_text = node is None or (isinstance(node, str) and node.isprintable())
        is_right = (
            memory_of in (None, JOB, PROCESS)
            and is_text
            and found["seconds"] is not None
            and all(one is None or _is_amount(one) for one in found.values())
        )
        if not is_right:
            return None
        return cls(**found, memory_of=memory_of, node=node and node[:NODE_CHARACTERS])


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < MOST


class Meter:
    """Measures, from when it is made, what this process's children take on a `platform`.

    `peak` is the file in which the kernel has the peak of the job's memory, see `job_peak`; `known`
    are fields of `Used` that are known already.
    """

    def __init__(self, platform: str, peak: Path | None = None, **known: Any) -> None:
        self._counts, self._peak, self._known = platform in OF_CHILDREN, peak, known
        self._began, self._cpu = time.monotonic(), _cpu_seconds()

    def read(self) -> Used:
        """What was taken until now."""
        node = os.environ.get(NODE_VARIABLE) or os.uname().nodename
        used = Used(time.monotonic() - self._began, node=node, **self._known)
        if not self._counts:
            return used
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
        counted = _number(self._peak) if self._peak else None
        return replace(
            used,
            cpu_seconds=_cpu_seconds() - self._cpu,
            memory_bytes=largest if counted is None else max(counted, largest),
            memory_of=PROCESS if counted is None else JOB,
        )


def together(every: Iterable[Used]) -> Used | None:
    """What steps took that were done one after the other; None if there are none."""
    found = list(every)
    if not found:
        return None
    cpu = [one.cpu_seconds for one in found if one.cpu_seconds is not None]
    waited = [one.waited_seconds for one in found if one.waited_seconds is not None]
    nodes = dict.fromkeys(one.node for one in found if one.node)
    # All of one job is more than one of its processes.
    most = max(found, key=lambda one: (one.memory_of == JOB, one.memory_bytes or 0))
    return replace(
        found[-1],
        seconds=sum(one.seconds for one in found),
        cpu_seconds=sum(cpu) if len(cpu) == len(found) else None,
        memory_bytes=most.memory_bytes,
        memory_of=most.memory_of,
        node=", ".join(nodes) or None,
        waited_seconds=sum(waited) if waited else None,
    )


def job_peak(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file with the peak of the memory of the queue's job that this process is in, if it is.

    A job has it where the cluster holds jobs in control groups of memory.
    """
    name = f"job_{environment.get(JOB_VARIABLE)}"
    groups = Path("/proc/self/cgroup").read_text().splitlines() if len(name) > len("job_") else []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        parts = PurePath(path).parts[1:]
        if name in parts and (not controllers or "memory" in controllers.split(",")):
            root, file = _OWN if controllers else _UNIFIED
            found = root.joinpath(*parts[: parts.index(name) + 1], file)
            if found.exists():
                return found
    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _cpu_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
