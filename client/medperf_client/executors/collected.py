"""What jobs did, taken in: each output is read anew, and what does not agree is refused."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medperf_cache import CacheError
from medperf_cache.blobs import BlobStore
from medperf_cache.trees import TreeStore
from medperf_client.containers.spec import Volume
from medperf_client.errors import ContainerFailed, MedPerfError, WrongHash
from medperf_client.execution.outputs import check_kind, check_outputs
from medperf_client.execution.plan import Plan, Planned
from medperf_client.execution.work import LOG, OUTPUTS, Work
from medperf_client.executors import records
from medperf_client.settings.config import ENGINES

FIELDS = {"outputs": dict, "seconds": float | int, "created_at": str}
# What only some records have: those of before say nothing of their engine.
MAY_HAVE = {"engine", "failed"}


class Collected:
    """Stands for doing a step that was done elsewhere: see `execution.steps.Perform`.

    `folder` is that of the element, `trouble` what became of its job if that did not end well;
    `refuse` is told the element's name if what lies there is not what it was to be.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        trouble: MedPerfError | None,
        refuse: Callable[[str], None],
    ) -> None:
        self._folder, self._plan = folder, plan
        self._trouble, self._refuse = trouble, refuse
        # The digests of what was promised, once it was seen, by token.
        self._made: dict[str, str] = {}

    def __call__(self, work: Work) -> dict[str, Any]:
        """The record of a step, its outputs at the places of `work`.

        Raises how it failed, and `WrongHash` for what does not agree.
        """
        try:
            return self._taken(work)
        except WrongHash as error:
            self._refuse(self._plan.name)
            raise WrongHash(
                f"{error}: nothing of it was taken",
                hint=f"Look at {self._folder}, then delete it to have it run anew.",
            ) from error

    def _taken(self, work: Work) -> dict[str, Any]:
        planned = self._planned(work)
        place = self._folder / planned.key
        if (place / LOG).is_file() and not (place / LOG).is_symlink():
            shutil.copyfile(place / LOG, work.job.log)
        try:
            record = records.recorded(place, planned.key)
        except WrongHash:
            raise
        except MedPerfError as error:
            said = str(error).replace(str(place / LOG), str(work.job.log))
            hint = error.hint.replace(str(place / LOG), str(work.job.log))
            raise type(error)(said, hint) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WrongHash(f"{place / records.RECORD} is no record: {error!r}") from error
        if record is None:
            raise self._trouble or WrongHash(f"{place} has no record")
        _require_record(record, work, place)
        for volume in work.outputs:
            self._fetch(volume, place / OUTPUTS / volume.name, work, record)
            self._made[f"{planned.key}/{volume.name}"] = record["outputs"][volume.name][1]
        return record

    def _planned(self, work: Work) -> Planned:
        """The step as it was planned, by what it is remembered by now."""
        for planned in self._plan.planned:
            if planned.key_given(self._made) == work.key:
                return planned
        raise WrongHash(f"{self._folder} has no task {work.job.called} on what it is to read")

    def _fetch(self, volume: Volume, found: Path, work: Work, record: Mapping[str, Any]) -> None:
        """Copy an output to its place, and see that it is what the record says."""
        place, what = work.places[volume.name], f"task {work.job.called}"
        is_folder = volume.kind == "directory"
        try:
            check_outputs([found], work.job.limits, what)
            check_kind(volume, found, what)
            if is_folder:
                shutil.copytree(found, place, symlinks=True)
            else:
                shutil.copyfile(found, place, follow_symlinks=False)
            digest = (TreeStore if is_folder else BlobStore).settle(place)
        except (ContainerFailed, CacheError, OSError, shutil.Error) as error:
            raise WrongHash(f"{found} is not what its job left: {error}") from error
        if [volume.kind, digest] != record["outputs"][volume.name]:
            raise WrongHash(
                f"{found} is {digest}, but its record names {record['outputs'][volume.name][1]}"
            )


def _require_record(record: object, work: Work, place: Path) -> None:
    """Raise `WrongHash` unless a record has what that of such a step has."""
    file = place / records.RECORD
    if not isinstance(record, dict) or not all(
        isinstance(record.get(name), kind) for name, kind in FIELDS.items()
    ):
        raise WrongHash(f"{file} is no record of a step")
    names = {volume.name for volume in work.outputs}
    given = record["outputs"]
    if set(given) != names or not all(
        isinstance(one, list) and len(one) == 2 for one in given.values()
    ):
        raise WrongHash(f"{file} does not name the outputs of task {work.job.called}")
    failed = record.get("failed")
    if record.keys() - FIELDS.keys() - MAY_HAVE or not (
        failed is None or (work.may_fail and isinstance(failed, str))
    ):
        raise WrongHash(f"{file} says more than the record of such a step")
    if "engine" in record and record["engine"] not in ENGINES:
        raise WrongHash(f"{file} names no engine that runs steps: {record['engine']!r}")
