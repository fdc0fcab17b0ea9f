"""What a site keeps of its datasets beside what the registry has: where the data are, how far."""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medperf_cache.errors import InUse
from medperf_cache.outbox import Entry
from medperf_cache.private import Private
from medperf_cache.scratch import lock, remove_tree
from medperf_client.errors import MedPerfError
from medperf_client.files import read_versioned, versioned, write_atomically

RECORD, FORMAT = "dataset.json", 1
# Where the outputs of a preparation lie in a dataset's folder, by volume.
PLACES = {
    "output_path": "data",
    "output_labels_path": "labels",
    "metadata_path": "metadata",
    "report_file": "report.yaml",
}
STATISTICS, LOGS = "statistics.yaml", "logs"
# Whose UID in the registry an entry of the queue has got, if it has one by now.
RealUid = Callable[[str], int | str | None]


@dataclass(frozen=True)
class Record:
    """One dataset of this site.

    `entry` is what of the queue registers it, `uid` what the registry calls it once it has it.
    `raw` are absolute paths by the volumes of `prepare`; those of data that were prepared before
    (`as_prepared`) are read where they are. `content` are the outputs of its preparation that
    moved to where nothing changes any more, by volume: the kind and the digest of each. Before, of
    a preparation in stages, they lie in `folder` and people may change them. It `is_ready` once
    they were checked and counted. `told` is what the registry was last told of its progress.
    """

    folder: Path
    name: str
    preparator: int | str
    raw: Mapping[str, str]
    as_prepared: bool
    input_data_hash: str
    entry: str | None = None
    uid: int | None = None
    is_staged: bool = False
    is_ready: bool = False
    content: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What people are shown of it."""
        uid = self.uid or self.entry
        return f"dataset {uid} ({self.name})" if uid else f"dataset {self.name}"

    @property
    def places(self) -> dict[str, Path]:
        """Where the outputs of its preparation are found, by volume."""
        return {volume: self.folder / name for volume, name in PLACES.items()}

    @property
    def statistics(self) -> Path:
        """Where its statistics are, once it was counted."""
        return self.folder / STATISTICS

    @property
    def logs(self) -> Path:
        """What containers printed that worked on it."""
        return self.folder / LOGS


class Datasets:
    """The datasets of one member at this site, a folder each; `private` is their content."""

    def __init__(self, root: Path, private: Private, real_uid: RealUid) -> None:
        self.root, self.private, self._real_uid = root, private, real_uid

    def all(self) -> list[Record]:
        """Every dataset, by its folder's name."""
        return [_read(path) for path in sorted(self.root.glob(f"*/{RECORD}"))]

    def find(self, uid: int | str) -> Record | None:
        """The dataset that the registry, or an entry of the queue, knows by this UID."""
        return next(
            (one for one in map(self.bound, self.all()) if uid in (one.uid, one.entry)), None
        )

    def of(self, uid: int | str, entity: Mapping[str, Any]) -> Record | None:
        """The dataset with this UID; or the one whose registration was cut off before it had one.

        `entity` is what the registry, or the queue, knows of it.
        """
        found = self.find(uid)
        if found is None:
            found = next((one for one in self.all() if _is_begun(one, entity)), None)
            if found is not None:
                bound = {"uid": uid} if isinstance(uid, int) else {"entry": uid}
                found = self.save(replace(found, **bound))
        return found

    def bound(self, record: Record) -> Record:
        """A record with the UID that the registry has given by now, stored if it is new."""
        real = self._real_uid(record.entry) if record.entry else None
        if isinstance(real, int) and real != record.uid:
            return self.save(replace(record, uid=real))
        return record

    def add(self, name: str, **fields: Any) -> Record:
        """Make the folder of a dataset, and its record."""
        folder = self.place(name)
        folder.mkdir(parents=True, mode=0o700)
        return self.save(Record(folder, name, **fields))

    def place(self, name: str) -> Path:
        """Where a new dataset of that name may have its folder."""
        spelt = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:20] or "dataset"
        return self.root / f"{spelt}-{secrets.token_hex(3)}"

    def registered(self, record: Record, entry: Entry) -> Record:
        """Note what of the queue registers a dataset, and the UID that it may have given."""
        return self.save(replace(record, entry=entry.uid, uid=entry.real_uid))

    def told(self, record: Record, summary: Mapping[str, Any]) -> None:
        """Note what the registry was last told of a dataset's progress."""
        self.save(replace(_read(record.folder / RECORD), told=summary))

    def save(self, record: Record) -> Record:
        """Store a record, whole or not at all."""
        fields = {name: value for name, value in asdict(record).items() if name != "folder"}
        write_atomically(record.folder / RECORD, versioned(FORMAT, fields))
        return record

    @contextmanager
    def alone(self, record: Record) -> Iterator[Record]:
        """Be the one who works on a dataset; the record as it is then. Raises `InUse`."""
        descriptor = lock(record.folder, wait=False)
        if descriptor is None:
            raise InUse(f"another medperf process is at work on {record.called}")
        try:
            yield _read(record.folder / RECORD)
        finally:
            os.close(descriptor)

    def remove(self, record: Record, used: Callable[[], set[str]]) -> None:
        """Delete a dataset's folder, then what was kept of it and nobody has use for.

        `used` gives the digests that results still name.
        """
        with self.alone(record):
            remove_tree(record.folder)
        kept = {digest for one in self.all() for _, digest in one.content.values()} | used()
        for store in (self.private.trees, self.private.blobs):
            for digest in list(store):
                if digest not in kept:
                    store.remove(digest)


def _is_begun(record: Record, entity: Mapping[str, Any]) -> bool:
    same = (entity.get("name"), entity.get("input_data_hash")) == (
        record.name,
        record.input_data_hash,
    )
    return same and record.uid is None and record.entry is None


def _read(path: Path) -> Record:
    try:
        fields = read_versioned(FORMAT, path)
        fields["content"] = {name: tuple(one) for name, one in fields["content"].items()}
        return Record(path.parent, **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MedPerfError(
            f"the record {path} of a dataset cannot be read: {error}",
            "Its data are in the folder beside it; put the record back from a backup.",
        ) from error


def show(record: Record, volume: str, path: Path) -> None:
    """Have the dataset's folder show content that is kept elsewhere, where people look for it.

    A folder that is there, as in a copy of a home that followed links, stays.
    """
    place = record.places.get(volume, record.statistics)
    if place.is_dir() and not place.is_symlink():
        return
    link = place.with_name(f".{place.name}")
    with suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(os.path.relpath(path, place.parent))
    os.replace(link, place)
