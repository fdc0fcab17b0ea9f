"""Images as files: what `docker save` writes."""

import hashlib
import json
from pathlib import Path
from typing import IO

from medperf_client.errors import InvalidContainer

# Real ones are a few kilobytes.
MAX_DOCUMENT_BYTES = 16 << 20


def archive_image_id(path: Path) -> str:
    """The ID of the one image in a `docker save` archive, compressed or not.

    It is the SHA-256 of the image's configuration (OCI image specification, "ImageID"), computed
    here rather than believed. Raises `InvalidContainer` for any other file.
    """
    # Imported late: images in a registry do not need it.
    import tarfile
    import zlib

    def read(member: IO[bytes] | None) -> bytes:
        if member is None:
            raise ValueError("its manifest names something that is not a file")
        return member.read(MAX_DOCUMENT_BYTES)

    try:
        with tarfile.open(path) as archive:
            match json.loads(read(archive.extractfile("manifest.json"))):
                case [{"Config": str(name)}]:
                    config = read(archive.extractfile(name))
                case _:
                    raise ValueError("its manifest.json names none, or several")
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, KeyError) as error:
        raise InvalidContainer(
            f"{path} is not an archive of one image: {error}",
            hint="Make it with: docker save --output FILE IMAGE",
        ) from error
    return hashlib.sha256(config).hexdigest()
