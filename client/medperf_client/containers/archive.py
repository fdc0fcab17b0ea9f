"""Images as files: what `docker save` writes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from medperf_cache import UnsafeArchive
from medperf_client.errors import InvalidContainer

# Real ones are a few kilobytes.
MAX_DOCUMENT_BYTES = 16 << 20


def archive_image_id(path: Path, name: str = "") -> str:
    """The ID of the one image in a `docker save` archive, compressed or not; `name` is for people.

    It is the SHA-256 of the image's configuration (OCI image specification, "ImageID"), computed
    here rather than believed. Raises `InvalidContainer` for any other file.
    """
    # Imported late: images in a registry do not need it.
    from medperf_cache.archives import open_tar

    def read(member: IO[bytes] | None) -> bytes:
        if member is None:
            raise ValueError("its manifest names something that is not a file")
        return member.read(MAX_DOCUMENT_BYTES)

    try:
        with open_tar(path) as archive:
            match json.loads(read(archive.extractfile("manifest.json"))):
                case [{"Config": str(config_name)}]:
                    config = read(archive.extractfile(config_name))
                case _:
                    raise ValueError("its manifest.json names none, or several")
    except (UnsafeArchive, OSError, ValueError, KeyError) as error:
        raise InvalidContainer(
            f"{name or path} is not an archive of one image: {error}",
            hint="Make it with: docker save --output FILE IMAGE",
        ) from error
    return hashlib.sha256(config).hexdigest()


def counted(
    chunks: Iterator[bytes], what: str, tell: Callable[[str, int, int | None], None]
) -> Iterator[bytes]:
    """The same, and `tell` gets what it is, the bytes so far, and in the end how many there are."""
    done = 0
    for chunk in chunks:
        done += len(chunk)
        tell(what, done, None)
        yield chunk
    tell(what, done, done)
