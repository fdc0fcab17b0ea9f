"""A step as any process can do it: its job, what its outputs are to be, and what it gives."""

import json
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medperf_cache.blobs import BlobStore
from medperf_cache.trees import TreeStore
from medperf_client.containers.job import Job
from medperf_client.containers.spec import Volume
from medperf_client.errors import ContainerFailed, UsageError
from medperf_client.execution.jobs import execute
from medperf_client.execution.outputs import check_kind, check_outputs

# What a preparation, and an evaluation, may have nothing to say in.
OPTIONAL_OUTPUTS = ("metadata_path", "report_file", "local_outputs_path")
# In the folder of a step that is done elsewhere.
OUTPUTS, LOG = "outputs", "log"


@dataclass(frozen=True)
class Work:
    """A step that is ready to be done; each of its `outputs` is a place that its job writes to.

    Of one that `may_fail` counts what it wrote until then. `key` is what it is remembered by.
    """

    job: Job
    outputs: tuple[Volume, ...]
    may_fail: bool = False
    key: str = ""

    @property
    def places(self) -> dict[str, Path]:
        """Where its outputs lie, by the names of their volumes."""
        written = {one.mount_path: one.path for one in self.job.mounts if not one.read_only}
        return {volume.name: written[volume.mount_path] for volume in self.outputs}

    @property
    def reads(self) -> list[Path]:
        """The files and folders that it reads, with its image."""
        given = [one.path for one in self.job.mounts if one.read_only]
        return given if self.job.archive is None else [self.job.archive, *given]

    def make_places(self) -> None:
        """Make an empty folder or file for each output that has none yet."""
        for volume in self.outputs:
            place = self.places[volume.name]
            place.mkdir(exist_ok=True) if volume.kind == "directory" else place.touch()

    def check(self) -> None:
        """Raise `ContainerFailed` if what it left is too much, or not what it is to be."""
        what = f"task {self.job.called}"
        check_outputs(self.places.values(), self.job.limits, what)
        for volume in self.outputs:
            check_kind(volume, self.places[volume.name], what)

    def text(self) -> str:
        """The work as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, text: str | bytes) -> "Work":
        """The work that `text` gave. Raises `UsageError` for anything else."""
        try:
            fields = json.loads(text)
            outputs = tuple(Volume(**volume) for volume in fields["outputs"])
            return cls(
                Job.read(json.dumps(fields["job"])), outputs, fields["may_fail"], fields["key"]
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(f"this is no work: {error!r}") from error


def perform(work: Work) -> dict[str, Any]:
    """Do a step in this process; the record that it is remembered by.

    That has `outputs` (kind and digest, by volume), `seconds`, `created_at`, the `engine` that ran
    it, and how it `failed`, if it did and may. Raises `ContainerFailed`, and `Unsupported` where
    its platform is not to be had.
    """
    work.make_places()
    started, failed = time.monotonic(), {}
    try:
        execute(work.job)
        seconds = time.monotonic() - started
        outputs = _settled(work)
    except ContainerFailed as error:
        if not work.may_fail:
            raise
        seconds, failed = time.monotonic() - started, {"failed": str(error)}
        outputs = _settled(work, may_be_empty=True)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    ran = {"seconds": seconds, "created_at": now, "engine": work.job.platform}
    return {"outputs": outputs, **ran, **failed}


def _settled(work: Work, may_be_empty: bool = False) -> dict[str, tuple[str, str]]:
    """The kind and the digest of each output. Raises `ContainerFailed` if it is not sound."""
    work.check()
    found: dict[str, tuple[str, str]] = {}
    for volume in work.outputs:
        path = work.places[volume.name]
        is_folder = volume.kind == "directory"
        is_empty = not (any(path.iterdir()) if is_folder else path.stat().st_size)
        if is_empty and not may_be_empty and volume.name not in OPTIONAL_OUTPUTS:
            raise ContainerFailed(
                f"task {work.job.called} ended well, but wrote nothing to {volume.name} "
                f"({volume.mount_path})",
                hint=f"Its output is in {work.job.log}",
            )
        store = TreeStore if is_folder else BlobStore
        found[volume.name] = (volume.kind, store.settle(path))
    return found
