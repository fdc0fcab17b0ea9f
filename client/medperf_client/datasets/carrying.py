"""Carry a dataset to another machine of its owner, in one file that is proved where it arrives."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from medperf_cache.archives import UnpackLimits, open_tar, unpack
from medperf_cache.digests import entries, file_digest, is_digest, kept_digest
from medperf_cache.errors import CacheError, CorruptContent, UnsafeArchive
from medperf_cache.fingerprints import Fingerprints
from medperf_cache.locks import hold
from medperf_cache.packing import (
    add_bytes,
    add_directory,
    add_file,
    add_folder,
    named,
    open_to_write,
    replacing,
)
from medperf_cache.scratch import scratch, sweep
from medperf_cache.trees import make_read_only
from medperf_client.containers.library import Input
from medperf_client.datasets.preparation import Preparation
from medperf_client.datasets.records import PLACES, STATISTICS, Datasets, Record
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.kinds.form import Entity
from medperf_client.kinds.submission import OPERATION
from medperf_client.ledger.records import Ledger

FORMAT = "medperf-dataset-1"
ABOUT, MOST_ABOUT_BYTES = "about.json", 1 << 20
# Images hardly get smaller, and terabytes take days at more than this.
COMPRESSION = 1
RAW = "raw"
# Where raw data are in the file; those that were prepared before are prepared data in the end.
AS_PREPARED = {"data_path": "data", "labels_path": "labels", "metadata_path": "metadata"}
RAW_NAMES = {volume: f"{RAW}/{name}" for volume, name in AS_PREPARED.items()}
VOLUMES = {name: volume for volume, name in PLACES.items()}

# Called with bytes so far and bytes in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class About:
    """What a file says of itself: which dataset it holds, how far that was, and what is in it.

    `parts` are the digests of all that it holds, `total_bytes` long, by name. `raw` says which part
    each volume of raw data is, `kept` which parts nothing changes any more.
    """

    registry: str
    dataset: int | str
    name: str
    state: str
    input_data_hash: str
    as_prepared: bool
    is_staged: bool
    is_ready: bool
    parts: dict[str, str]
    raw: dict[str, str]
    kept: list[str]
    total_bytes: int
    format: str = FORMAT

    def check(self) -> None:
        """Raise `ValueError` unless it has this form."""
        kinds: dict[str, Any] = {
            **dict.fromkeys(("registry", "name", "state", "input_data_hash"), str),
            **dict.fromkeys(("as_prepared", "is_staged", "is_ready"), bool),
            **{"dataset": int | str, "total_bytes": int, "parts": dict, "raw": dict, "kept": list},
        }
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}")
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format!r}, and this medperf reads {FORMAT}")
        known = {*VOLUMES, STATISTICS, *RAW_NAMES.values()}
        if not self.parts.keys() <= known or not all(map(_is_digest, self.parts.values())):
            raise ValueError("its parts are no parts of a dataset")
        if not self.raw.keys() <= RAW_NAMES.keys() or not {*self.raw.values()} <= _raw(self.parts):
            raise ValueError("raw names what is not there")
        if not all(isinstance(name, str) and name in VOLUMES for name in self.kept):
            raise ValueError("kept names what is no output")
        if not {*self.kept} <= self.parts.keys() or self.total_bytes < 0:
            raise ValueError("kept or total_bytes is wrong")
        if self.state == OPERATION and not (self.is_ready and {"data", "labels"} <= {*self.kept}):
            raise ValueError("it is in OPERATION, and its prepared data are not all there")


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and is_digest(value)


def _raw(parts: Any) -> set[str]:
    return {name for name in parts if name.startswith(f"{RAW}/")}


class Carrier:
    """Writes datasets of a site to files, and takes them from files of its member's other sites.

    `registry` is the URL of the registry that knows them.
    """

    def __init__(
        self,
        registry: str,
        datasets: Datasets,
        preparation: Preparation,
        fingerprints: Fingerprints,
        ledger: Ledger,
        progress: Progress,
    ) -> None:
        self._registry, self._datasets = registry, datasets
        self._preparation, self._fingerprints = preparation, fingerprints
        self._ledger, self._progress = ledger, progress

    def export(self, record: Record, entity: Entity, file: Path) -> About:
        """Write all that is here of a dataset to a file; the caller is alone with it.

        `entity` is what the registry knows of it. What its preparation made goes along, and in
        DEVELOPMENT the raw data, from which it goes on. The file appears whole or not at all.
        Raises `UsageError` if it is there already or raw data are gone, `MedPerfError` for what was
        changed since it was registered or while it was read, `NotWritable` where there is no room.
        """
        if os.path.lexists(file):
            raise UsageError(f"{file} is there already", hint="Delete it, or name another folder.")
        is_final = entity["state"] == OPERATION
        if is_final:
            record = self._final(record, entity)
        parts, raw = self._parts(record, is_final)
        kept = {PLACES[volume] for volume in (PLACES if is_final else record.content)}
        about = About(
            registry=self._registry,
            dataset=entity["id"],
            name=record.name,
            state=entity["state"],
            input_data_hash=record.input_data_hash,
            as_prepared=record.as_prepared,
            is_staged=record.is_staged,
            is_ready=record.is_ready,
            parts={name: part.digest for name, part in parts.items()},
            raw=raw,
            kept=sorted(kept & parts.keys()),
            total_bytes=sum(_size(part.path) for part in parts.values()),
        )
        described = json.dumps(asdict(about), indent=1).encode("ascii")
        with self._ledger.exporting("dataset", file) as watch, replacing(file) as new:
            watch.begin(described)
            digest = _write(new, file, described, about.total_bytes, parts, self._progress)
            now, _ = self._parts(record, is_final)
            if {name: part.digest for name, part in now.items()} != about.parts:
                raise MedPerfError(
                    f"something of {record.called} was changed while it was exported",
                    "Leave it alone meanwhile, and export it again.",
                )
            watch.seal(digest, new.stat().st_size)
        return about

    def take(self, file: Path, entity: Entity, raw_folder: Path | None) -> Record:
        """Have a dataset here that a file holds.

        `entity` is what the registry knows of it. Raw data come to `raw_folder`, which must not be
        there yet. All is unpacked out of sight, and proved; then it appears. Whoever is refused or
        interrupted has nothing of it. Raises `UsageError` for a file of another dataset, or of one
        that is here, `UnsafeArchive` and `CorruptContent` for one that is not what it says,
        `MedPerfError` for what was not registered so, `InUse` if another process imports.
        """
        about = read_about(file)
        _require_same(file, about, entity, self._registry)
        _require_place(about, raw_folder)
        private, busy = self._datasets.private, "another medperf process imports a dataset"
        with hold(self._datasets.root / "import.lock", busy, wait=False):
            known = self._datasets.find(entity["id"])
            if known is not None:
                raise UsageError(
                    f"{known.called} is on this machine already, in {known.folder}",
                    hint=f"To replace it, first: medperf dataset rm -d {entity['id']}",
                )
            # What an import left that was killed.
            private.sweep()
            with private.scratch() as area, _beside(raw_folder) as beside:
                parts = area / "parts"
                self._unpack(file, about, parts)
                _prove(file, about, parts, self._fingerprints)
                if about.state == OPERATION:
                    self._prove_registered(file, parts, entity)
                if beside is not None:
                    shutil.move(parts / RAW, beside / RAW)
                record = self._laid_out(about, parts, entity, area / "dataset", raw_folder)
                _appear(area / "dataset", record.folder, beside, raw_folder)
                return record

    def _final(self, record: Record, entity: Entity) -> Record:
        record = self._preparation.take_over(record, entity["generated_uid"])
        if self._preparation.generated_uid(record) != entity["generated_uid"]:
            raise MedPerfError(
                f"the prepared data of {record.called} are not those that were registered",
                "Somebody changed them since. Put back what was there.",
            )
        return record

    def _parts(self, record: Record, is_final: bool) -> tuple[dict[str, Input], dict[str, str]]:
        """What to carry by its name in the file; which of it each volume of raw data is."""
        made = {PLACES[volume]: part for volume, part in self._preparation.made(record).items()}
        if record.statistics.exists():
            made[STATISTICS] = Input(record.statistics, file_digest(record.statistics))
        if is_final and not record.as_prepared:
            return made, {}
        given = self._preparation.raw(record)
        if is_final:
            return {**made, **{AS_PREPARED[one]: part for one, part in given.items()}}, {}
        names: dict[Path, str] = {}
        raw = {one: names.setdefault(part.path, RAW_NAMES[one]) for one, part in given.items()}
        return {**made, **{raw[one]: part for one, part in given.items()}}, raw

    def _unpack(self, file: Path, about: About, parts: Path) -> None:
        free = shutil.disk_usage(parts.parent).free
        if about.total_bytes > free:
            raise CacheError(f"{file} takes {about.total_bytes} bytes, {free} are free at {parts}")
        parts.mkdir()
        # Beside the parts there is what it says of itself, and how a tar archive ends.
        limits = UnpackLimits(about.total_bytes + MOST_ABOUT_BYTES)
        total = about.total_bytes
        unpack(file, parts, limits, str(file), lambda done: self._progress(done, total))
        (parts / ABOUT).unlink()

    def _prove_registered(self, file: Path, parts: Path, entity: Entity) -> None:
        found = self._fingerprints.folder_hash(parts / "data", parts / "labels")
        if found != entity["generated_uid"]:
            raise MedPerfError(
                f"what {file} holds is not what dataset {entity['id']} ({entity['name']}) is: its "
                f"folder hash is {found}, and {entity['generated_uid']} was registered",
                "Export it again where it was prepared.",
            )

    def _laid_out(
        self, about: About, parts: Path, entity: Entity, folder: Path, raw_folder: Path | None
    ) -> Record:
        """The record of what was proved, in a folder as it is to be; what is kept is in place."""
        stores: dict[str, Any] = {
            "directory": self._datasets.private.trees,
            "file": self._datasets.private.blobs,
        }
        place, content = self._datasets.place(about.name), {}
        folder.mkdir(mode=0o700)
        for name, digest in about.parts.items():
            part = parts / name
            if name in about.kept:
                kind = "directory" if part.is_dir() else "file"
                stores[kind].publish(part, digest)
                content[VOLUMES[name]] = (kind, digest)
                kept = os.path.relpath(stores[kind].path(digest), place)
                (folder / name).symlink_to(kept)
            elif not name.startswith(f"{RAW}/"):
                os.rename(part, folder / name)
        uid = entity["id"]
        record = Record(
            folder,
            about.name,
            entity["data_preparation_mlcube"],
            {one: _placed(name, raw_folder) for one, name in about.raw.items()},
            as_prepared=about.as_prepared and about.state != OPERATION,
            input_data_hash=about.input_data_hash,
            entry=uid if isinstance(uid, str) else None,
            uid=uid if isinstance(uid, int) else None,
            is_staged=about.is_staged,
            is_ready=about.is_ready,
            content=content,
        )
        return replace(self._datasets.save(record), folder=place)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    found = (os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files)
    return sum(os.lstat(one).st_size for one in found if not os.path.islink(one))


def _write(
    new: Path,
    file: Path,
    described: bytes,
    total_bytes: int,
    parts: dict[str, Input],
    progress: Progress,
) -> str:
    """The SHA-256 of what was written."""
    done, digest = 0, sha256()

    def note(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total_bytes)

    with (
        open(new, "wb") as raw,
        _compressed(raw, file, digest.update) as target,
        open_to_write(target) as tar,
    ):
        add_bytes(tar, ABOUT, described)
        for name, part in parts.items():
            if part.path.is_dir():
                add_directory(tar, name)
                add_folder(tar, f"{name}/", part.path, note)
            else:
                with open(part.path, "rb", buffering=0) as content:
                    add_file(tar, name, content, note)
    return digest.hexdigest()


@contextmanager
def _compressed(raw: BinaryIO, file: Path, hash_too: Callable[[bytes], None]) -> Iterator[Any]:
    """What compresses to an open file, which is on the disk after the block.

    `hash_too` is given all that is written.
    """

    class Target:
        """Says of an error of the disk which file it keeps from being written."""

        def write(self, data: Any) -> int:
            hash_too(data)
            with named(file):
                return raw.write(data)

        def flush(self) -> None:
            with named(file):
                raw.flush()
                os.fsync(raw.fileno())

    target: Any = Target()
    # Without a name and a time: the same content is the same file.
    with gzip.GzipFile("", "wb", COMPRESSION, target, 0) as compressed:
        yield compressed
    target.flush()


def read_about(file: Path) -> About:
    """What a file of a dataset says of itself. Raises `UnsafeArchive` if it is none."""
    try:
        with open_tar(file) as tar:
            member = tar.next()
            if member is None or member.name != ABOUT or not member.isreg():
                raise ValueError(f"it does not begin with {ABOUT}")
            if member.size > MOST_ABOUT_BYTES:
                raise ValueError(f"its {ABOUT} has {member.size} bytes")
            about = About(**json.loads(tar.extractfile(member).read()))
        about.check()
    except (UnsafeArchive, ValueError, TypeError, RecursionError) as error:
        raise UnsafeArchive(f"{file} holds no dataset, or is damaged: {error}") from error
    return about


def _require_same(file: Path, about: About, entity: Entity, registry: str) -> None:
    called = f"dataset {entity['id']} ({entity['name']})"
    # One that was exported before it was registered is known by what was registered then.
    is_same = about.dataset == entity["id"] or (
        isinstance(about.dataset, str)
        and (about.name, about.input_data_hash) == (entity["name"], entity["input_data_hash"])
    )
    if about.registry != registry or not is_same:
        raise UsageError(
            f"{file} holds dataset {about.dataset} ({about.name}) of {about.registry}, "
            f"not {called} of {registry}",
            hint="See: medperf dataset ls --mine, medperf profile activate --help",
        )
    if about.state != entity["state"]:
        raise UsageError(
            f"{called} is in {entity['state']}, and {file} was written while it was in "
            f"{about.state}",
            hint="Learn what is new with medperf sync, here and there, or export it again.",
        )


def _require_place(about: About, raw_folder: Path | None) -> None:
    if about.raw and raw_folder is None:
        raise UsageError(
            "the file holds raw data, for the dataset is in DEVELOPMENT: where should they be?",
            hint="Add: --raw_dataset_path FOLDER, one that is not there yet",
        )
    if raw_folder is not None and not about.raw:
        raise UsageError(
            "the file holds no raw data, for the dataset is in OPERATION",
            hint="Leave --raw_dataset_path away.",
        )
    if raw_folder is not None and os.path.lexists(raw_folder):
        raise UsageError(
            f"{raw_folder} is there already", hint="Name a folder for the raw data that is not."
        )


@contextmanager
def _beside(folder: Path | None) -> Iterator[Path | None]:
    """A scratch folder on the file system where a folder is to be; None for none."""
    if folder is None:
        yield None
        return
    area = folder.with_name(f".{folder.name}.incoming")
    sweep(area)
    try:
        with scratch(area) as found:
            yield found
    finally:
        with suppress(OSError):
            area.rmdir()


def _prove(file: Path, about: About, parts: Path, fingerprints: Fingerprints) -> None:
    """Raise unless what was unpacked is what the file says; make read-only what is kept."""
    there = {path.name for path in parts.iterdir()} - {RAW}
    there |= {f"{RAW}/{path.name}" for path in (parts / RAW).glob("*")}
    if there != about.parts.keys():
        odd = ", ".join(sorted(there ^ about.parts.keys()))
        raise UnsafeArchive(f"{file} holds other parts than it says: {odd}")
    # What is kept would change with what has the same content by such a link.
    if any(
        one.is_file(follow_symlinks=False) and one.stat().st_nlink > 1 for _, one in entries(parts)
    ):
        raise UnsafeArchive(f"{file} holds hard links")
    for name, expected in about.parts.items():
        is_kept = name in about.kept
        if is_kept and (parts / name).is_dir():
            make_read_only(parts / name)
        found = _digest(parts / name, is_kept, fingerprints)
        if found != expected:
            raise CorruptContent(f"{name} in {file}", expected, found)


def _digest(part: Path, is_kept: bool, fingerprints: Fingerprints) -> str:
    if part.is_symlink():
        raise UnsafeArchive(f"{part.name} is a link")
    if part.is_file():
        return file_digest(part)
    # What is kept is read once: the folder hash goes by the digests of its files.
    return fingerprints.digest(part) if is_kept else kept_digest(part)


def _placed(name: str, raw_folder: Path | None) -> str:
    assert raw_folder is not None
    return str(raw_folder.resolve() / name.removeprefix(f"{RAW}/"))


def _appear(folder: Path, place: Path, beside: Path | None, raw_folder: Path | None) -> None:
    """Have a dataset and its raw data be where they belong, both or none of them."""
    if beside is None or raw_folder is None:
        os.rename(folder, place)
        return
    raw = beside / RAW
    try:
        os.rename(raw, raw_folder)
        os.rename(folder, place)
    except BaseException:
        if not raw.exists() and not place.exists():
            os.rename(raw_folder, raw)
        raise
