"""Write a collection of results to a file for others: noted in the ledger, whole or not at all."""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from medperf_cache.digests import file_digest
from medperf_cache.packing import named, replacing
from medperf_client.ledger.records import Ledger
from medperf_client.publishing.collection import Collection
from medperf_client.publishing.table import as_csv

ROCRATE, CSV, JSON = "rocrate", "csv", "json"
METADATA = "ro-crate-metadata.json"


def export(
    collection: Collection,
    form: str,
    file: Path,
    ledger: Ledger,
    scratch: Path,
    license_url: str = "",
) -> dict[str, Any]:
    """Write results as `ROCRATE` (a zip archive), `CSV` or `JSON`; the file's SHA-256 and size.

    `scratch` is an empty folder to lay a crate out in. The file appears whole or not at all, in
    place of an earlier one, and has its line in the ledger before its first byte. Raises
    `NotWritable` where there is no room, `Unrecorded` where there is none for the line.
    """
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with ledger.exporting("results", file) as watch, replacing(file) as new:
        watch.begin(json.dumps(_contents(collection, form), indent=1).encode("ascii"))
        if form == ROCRATE:
            from medperf_client.publishing.crate import write_crate

            write_crate(collection, scratch, at, license_url)
        with named(file):
            if form == ROCRATE:
                _zip(scratch, new)
            else:
                _write(new, as_csv(collection) if form == CSV else _document(collection, at))
            with open(new, "rb+") as written:
                os.fsync(written.fileno())
            digest, size_bytes = file_digest(new), new.stat().st_size
        watch.seal(digest, size_bytes)
    return {"sha256": digest, "bytes": size_bytes}


def _contents(collection: Collection, form: str) -> dict[str, Any]:
    """What leaves, as the ledger has it: each results document by the SHA-256 of its file."""
    from medperf_client.publishing.crate import document

    digests = {str(one["id"]): sha256(document(one)).hexdigest() for one in collection.results}
    return {"format": form, "benchmark": collection.benchmark["id"], "results": digests}


def _document(collection: Collection, at: str) -> Iterator[str]:
    told = {
        "registry": collection.registry,
        "as_of": collection.as_of,
        "exported_at": at,
        "benchmark": collection.benchmark,
        "results": collection.results,
        "entities": {kind: [*found.values()] for kind, found in collection.entities.items()},
        "lacks": collection.lacks,
    }
    yield json.dumps(told, indent=1) + "\n"


def _write(target: Path, pieces: Iterable[str]) -> None:
    with open(target, "wb") as out:
        for piece in pieces:
            out.write(piece.encode("utf-8", "backslashreplace"))


def _zip(folder: Path, target: Path) -> None:
    """Pack a crate, its metadata first, for who reads it from a stream."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    # A clock may stand before 1980, where times in zip archives begin.
    archive = zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)
    with archive:
        for path in sorted(paths, key=lambda path: path.name != METADATA):
            archive.write(path, path.relative_to(folder))
