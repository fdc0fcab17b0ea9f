"""An image as a folder (OCI image layout), made of what `docker save` writes.

Whoever reads it finds one image there, and every layer is what the image's configuration says.
"""

import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import IO, Any

from medperf_cache import UnsafeArchive
from medperf_client.containers.archive import MAX_DOCUMENT_BYTES
from medperf_client.errors import InvalidContainer

CHUNK_BYTES = 1 << 20
MEDIA_TYPE = "application/vnd.oci.image."
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def lay_out(archive: Path, image_id: str, folder: Path, name: str) -> bytes:
    """Make a folder of the image of that ID in an archive, called `name`; its configuration.

    What the image says of how it is started is left out: that is for who starts it to know. Raises
    `InvalidContainer` for an archive that holds anything else in its place.
    """
    # Imported late: images in a registry do not need it.
    from medperf_cache.archives import open_tar

    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    try:
        with open_tar(archive) as members:
            (entry,) = json.loads(_content(members, "manifest.json"))
            config = _content(members, entry["Config"])
            if hashlib.sha256(config).hexdigest() != image_id:
                raise ValueError(f"it holds no image {image_id}")
            read = json.loads(config)
            layers = [
                _layer(blobs, members.extractfile(layer), digest)
                for layer, digest in zip(entry["Layers"], read["rootfs"]["diff_ids"], strict=True)
            ]
    except (UnsafeArchive, OSError, ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise InvalidContainer(f"{name} is not image {image_id}: {error}") from error
    kept = {key: read[key] for key in ("architecture", "os", "variant", "rootfs") if key in read}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA_TYPE}manifest.v1+json",
        "config": _document(blobs, kept, "config.v1+json"),
        "layers": layers,
    }
    index = {"schemaVersion": 2, "manifests": [_document(blobs, manifest, "manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return config


def _content(members: Any, name: str) -> bytes:
    file = members.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file there")
    content: bytes = file.read(MAX_DOCUMENT_BYTES)
    return content


def _document(blobs: Path, content: dict[str, Any], kind: str) -> dict[str, Any]:
    text = json.dumps(content).encode()
    digest = hashlib.sha256(text).hexdigest()
    (blobs / digest).write_bytes(text)
    return {"mediaType": MEDIA_TYPE + kind, "digest": f"sha256:{digest}", "size": len(text)}


def _layer(blobs: Path, source: IO[bytes] | None, expected: str) -> dict[str, Any]:
    """Take a layer in, packed as it is, whose content has the expected digest."""
    if source is None:
        raise ValueError("a layer of it is not a file there")
    new, digest, size = blobs / "new", hashlib.sha256(), 0
    with open(new, "wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            size += file.write(chunk)
    found, kind = _unpacked_digest(new)
    if f"sha256:{found}" != expected:
        raise ValueError(f"a layer of it is {found}, and not {expected}")
    new.rename(blobs / digest.hexdigest())
    media_type = f"{MEDIA_TYPE}layer.v1.tar{kind}"
    return {"mediaType": media_type, "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _unpacked_digest(layer: Path) -> tuple[str, str]:
    """The SHA-256 of what a layer holds, and the end of the name of its form."""
    from medperf_cache.archives import without_zstd

    with open(layer, "rb") as file:
        begin = file.read(len(ZSTD))
    kind = "+gzip" if begin.startswith(GZIP) else "+zstd" if begin == ZSTD else ""
    digest = hashlib.sha256()
    with without_zstd(layer) as plain:
        content = gzip.GzipFile(fileobj=plain) if kind == "+gzip" else plain
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest(), kind
