"""From raw data to a dataset that is ready: prepared, checked and counted, perhaps in stages."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from medperf_cache import Storage
from medperf_cache.fingerprints import Progress, silent
from medperf_cache.private import Private
from medperf_client.containers.library import Container, Input
from medperf_client.datasets.records import Datasets, Record, show
from medperf_client.errors import ContainerFailed, InvalidContainer, MedPerfError, UsageError
from medperf_client.execution.compatibility import read_yaml
from medperf_client.execution.steps import Steps
from medperf_client.execution.workflow import Prepared, inspection, made_by, preparation
from medperf_client.files import write_atomically
from medperf_client.kinds.dataset import progress_summary
from medperf_client.kinds.form import Entity

# Between two looks at the report of a preparation that goes on.
SECONDS = 5.0
RAW = ("data_path", "labels_path", "metadata_path")
STARTED, RUNNING, FINISHED, FAILED, INTERRUPTED = (
    *("started", "running", "finished", "failed", "interrupted"),
)
# Told how far a preparation is, and whether that is the last word for now.
Told = Callable[[Entity, bool], None]


class Preparation:
    """Prepares the datasets of a site.

    `tell` gets a summary of the progress whenever it changes; who sends it asks the member first.
    `progress` is told of what is hashed.
    """

    def __init__(
        self, storage: Storage, datasets: Datasets, tell: Told, progress: Progress = silent
    ) -> None:
        self._storage, self._datasets, self._tell = storage, datasets, tell
        self._progress = progress

    @property
    def _private(self) -> Private:
        return self._datasets.private

    def run(self, record: Record, preparator: Container, steps: Steps) -> Record:
        """Prepare, check and count a dataset; the caller is alone with it.

        In stages, if the preparator writes a report: then what it wrote before is there, with all
        that people changed, and a check that fails says that it is not done. Raises what steps
        raise, `MedPerfError` if it is not done yet, and `InvalidContainer` for empty statistics.
        """
        is_staged = "report_file" in {one.name for one in preparator.spec.task("prepare").outputs}
        staged = is_staged and not record.as_prepared
        if record.is_ready:
            record = self._datasets.save(replace(record, is_ready=False))
        self._tell(self.summary(record, STARTED), False)
        try:
            if staged:
                prepared, record = self._in_stages(record, preparator, steps)
            elif record.as_prepared:
                prepared = inspection(steps, preparator, self.raw(record))
            else:
                prepared = preparation(steps, preparator, self.raw(record))
            counted = prepared.statistics.path
            if not read_yaml(counted, "what statistics wrote"):
                raise InvalidContainer("what statistics wrote is empty")
            try:
                text = counted.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise InvalidContainer("what statistics wrote is not text in UTF-8") from error
            write_atomically(record.statistics, text)
        except KeyboardInterrupt:
            self._tell(self.summary(record, INTERRUPTED), True)
            raise
        except Exception:
            self._tell(self.summary(record, FAILED), True)
            raise
        content = {} if staged or record.as_prepared else self._content(prepared)
        record = self._datasets.save(
            replace(record, is_staged=staged, is_ready=True, content=content)
        )
        for volume, (kind, digest) in content.items():
            show(record, volume, self._kept(kind).path(digest))
        self._tell(self.summary(record, FINISHED), True)
        return record

    def inputs(self, record: Record) -> dict[str, Input]:
        """Prepared data, labels and perhaps metadata, by the volumes of those who read them.

        Raises `UsageError` if they are not there.
        """
        if not record.is_ready:
            raise UsageError(
                f"{record.called} is not prepared",
                hint=f"Run: medperf dataset prepare -d {record.uid or record.entry}",
            )
        if record.as_prepared:
            return self.raw(record)
        names = {"output_path": "data_path", "output_labels_path": "labels_path"}
        names["metadata_path"] = "metadata_path"
        if record.content:
            return {
                names[volume]: Input(self._lies(record, volume, kind, digest), digest)
                for volume, (kind, digest) in record.content.items()
                if volume in names
            }
        digest = self._storage.fingerprints.digest
        found = {names[volume]: record.places[volume] for volume in names}
        return {
            name: Input(path, digest(path, self._progress))
            for name, path in found.items()
            if path.exists()
        }

    def hashes(self, record: Record) -> tuple[str, str]:
        """The folder hash of a dataset's raw data, and that of its prepared data.

        Raw data that are gone hash to what they were when they were registered.
        """
        given, raw = record.input_data_hash, [Path(one) for one in _two(record.raw)]
        if raw and all(path.is_dir() for path in raw):
            given = self._hash(raw, f"the raw data of {record.called}")
        return given, self.generated_uid(record)

    def generated_uid(self, record: Record) -> str:
        """The folder hash of a dataset's prepared data. Raises `UsageError` if there are none."""
        inputs = self.inputs(record)
        prepared = [inputs[name].path for name in RAW[:2]]
        return self._hash(prepared, f"the prepared data of {record.called}")

    def _hash(self, folders: list[Path], called: str) -> str:
        return self._storage.fingerprints.folder_hash(
            *folders, called=called, progress=self._progress
        )

    def take_over(self, record: Record, generated_uid: str) -> Record:
        """Make prepared data that are final read-only, and move them to where nothing changes.

        Whoever was cut off in it goes on. Raises `MedPerfError` if they are not those that the
        registry was told of.
        """
        if record.as_prepared or not record.is_staged:
            return record
        if not record.content:
            if self.generated_uid(record) != generated_uid:
                raise MedPerfError(
                    f"the prepared data of {record.called} are not those that were registered",
                    f"Somebody changed {record.folder} since. Put back what was there.",
                )
            content = {
                volume: (kind, self._kept(kind).settle(path))
                for volume, path in record.places.items()
                if path.exists()
                for kind in ["directory" if path.is_dir() else "file"]
            }
            record = self._datasets.save(replace(record, content=content))
        for volume, (kind, digest) in record.content.items():
            place = record.places[volume]
            if not place.is_symlink():
                if place.exists():
                    self._kept(kind).publish(place, digest)
                show(record, volume, self._kept(kind).path(digest))
        return record

    def undo(self, record: Record) -> Record:
        """Forget what was prepared of a dataset, which is not what it was meant to be."""
        for volume in record.content:
            if record.places[volume].is_symlink():
                record.places[volume].unlink()
        return self._datasets.save(replace(record, is_ready=False, content={}))

    def raw(self, record: Record) -> dict[str, Input]:
        """Raw data by the volumes of `prepare`. Raises `UsageError` if they are gone."""
        digest = self._storage.fingerprints.digest
        found = {}
        for name, path in record.raw.items():
            if not Path(path).is_dir():
                raise UsageError(
                    f"{path}, the {name} of {record.called}, is not a folder any more",
                    hint="Put the data back where they were.",
                )
            found[name] = Input(Path(path), digest(Path(path), self._progress))
        return found

    def made(self, record: Record) -> dict[str, Input]:
        """What a preparation wrote so far, by volume: all of it if it is done."""
        digest = self._storage.fingerprints.digest
        places = {**record.places, "report_file": _newest_report(record)}
        for volume, kept in record.content.items():
            places[volume] = self._lies(record, volume, *kept)
        return {
            volume: Input(path, digest(path, self._progress))
            for volume, path in places.items()
            if path.exists()
        }

    def summary(self, record: Record, status: str) -> Entity:
        """How far a preparation is, as the registry may be told: shares, and no case by name."""
        return progress_summary(status, self.statuses(record))

    def statuses(self, record: Record) -> Mapping[str, Any]:
        """The status of each case, if the preparator reports them and its report can be read."""
        found = self.report(record).get("status", {})
        return found if isinstance(found, dict) else {}

    def report(self, record: Record) -> Entity:
        """The preparator's report, columns by name; empty if there is none that can be read.

        While a container writes it, it may be half there.
        """
        from medperf_client import strict_yaml

        try:
            found = strict_yaml.read_results(_newest_report(record).read_bytes())
        except (OSError, ValueError, TypeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _in_stages(
        self, record: Record, preparator: Container, steps: Steps
    ) -> tuple[Prepared, Record]:
        record = self._reopened(record)
        with self._telling(record):
            step = steps.work("prepare", preparator, self.raw(record), record.places)
        try:
            return inspection(steps, preparator, made_by(step)), record
        except ContainerFailed as error:
            uid = record.uid or record.entry
            raise MedPerfError(
                f"{record.called} is not ready yet, something is left to do: {error}",
                f"The prepared data are in {record.places['output_path']}, the report is "
                f"{record.places['report_file']}; see: medperf dataset view {uid}. "
                f"Then go on with: medperf dataset prepare -d {uid}",
            ) from error

    def _reopened(self, record: Record) -> Record:
        """A record whose data are in its folder again, to go on with, if they were taken over."""
        import shutil

        from medperf_cache.trees import make_writable

        for volume, (kind, digest) in record.content.items():
            place = record.places[volume]
            if place.exists() and not place.is_symlink():
                continue
            kept = self._kept(kind).path(digest)
            place.unlink(missing_ok=True)
            if kind == "file":
                shutil.copyfile(kept, place)
            else:
                shutil.copytree(kept, place, symlinks=True)
                make_writable(place)
        if not record.content:
            return record
        return self._datasets.save(replace(record, content={}))

    @contextmanager
    def _telling(self, record: Record) -> Iterator[None]:
        """Look at the report now and then during the block, and tell what is new in it."""
        done = threading.Event()

        def look() -> None:
            last: Entity = {}
            while not done.wait(SECONDS):
                summary = self.summary(record, RUNNING)
                if summary != last:
                    last = summary
                    self._tell(summary, False)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _lies(self, record: Record, volume: str, kind: str, digest: str) -> Path:
        """Where content is: whoever took it over may have been cut off before it moved."""
        kept = self._kept(kind)
        found: Path = kept.path(digest) if digest in kept else record.places[volume]
        return found

    def _content(self, prepared: Prepared) -> dict[str, tuple[str, str]]:
        made = {
            "output_path": prepared.data,
            "output_labels_path": prepared.labels,
            "metadata_path": prepared.metadata,
        }
        return {
            volume: ("directory", given.digest)
            for volume, given in made.items()
            if given is not None
        }

    def _kept(self, kind: str) -> Any:
        return self._private.blobs if kind == "file" else self._private.trees


def _newest_report(record: Record) -> Path:
    """Where the preparator's report is, or would be."""
    place = record.places["report_file"]
    # Where a container that runs writes it, or one that was killed, see `volumes.FileFolder`.
    beside = place.with_name(f"{place.name}~")
    return next(iter(sorted(beside.glob("*"))), place) if beside.is_dir() else place


def _two(raw: Mapping[str, str]) -> list[str]:
    return [raw[name] for name in RAW[:2] if name in raw]
