"""Where a container's files are hosted, or will be once the registry stores them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medperf_cache import Storage
from medperf_client.errors import UsageError, WrongHash
from medperf_client.transfer.own_files import OwnFiles

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class HostedFiles:
    """Where a container's files are hosted, and the SHA-256 of those whose owner gave it.

    Without an `image_url` the configuration says where the image is. `paths` are those of the files
    on this disk, by the URLs that they will have.
    """

    config_url: str
    config_hash: str = ""
    parameters_url: str = ""
    additional_url: str = ""
    parameters_hash: str = ""
    additional_hash: str = ""
    image_url: str = ""
    image_hash: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)

    def called(self, url: str) -> str:
        """What people call the file of a URL: its path, where it is on this disk."""
        return self.paths.get(url, url)


def adopted(
    files: HostedFiles, storage: Storage, own: OwnFiles
) -> tuple[HostedFiles, dict[Path, str]]:
    """The same files with URLs, and the SHA-256 of those that are to be uploaded, by their paths.

    What is named by a path is taken into the cache, and gets the URL that it will have in the
    registry; so does the image that a configuration on this disk names by a path. Raises
    `UsageError` for what is neither a URL nor a file, `WrongHash` if a hash was given and differs.
    The cache has to be held meanwhile (`Storage.in_use`).
    """
    found: dict[Path, str] = {}

    def take(path: Path, given: str) -> str:
        _require_file(path)
        digest = found[path] = storage.blobs.add(_chunks(path))
        if given and given != digest:
            raise WrongHash(f"{path}: expected sha256 {given}, found {digest}")
        return digest

    changes: dict[str, Any] = {}
    for name in ("config", "parameters", "additional"):
        text = getattr(files, f"{name}_url")
        if text and "://" not in text:
            path = Path(os.path.expanduser(text))
            digest = take(path, getattr(files, f"{name}_hash"))
            changes |= {f"{name}_url": own.url(digest), f"{name}_hash": digest}
            if name == "config" and (image := _image(path)) is not None:
                digest = take(image, files.image_hash)
                changes |= {"image_url": own.url(digest), "image_hash": digest}
    paths = {own.url(digest): str(path) for path, digest in found.items()}
    return replace(files, paths=paths, **changes), found


def _image(config: Path) -> Path | None:
    """The image that a configuration names by a path, as seen from its own folder."""
    from medperf_client.containers.spec import IMAGE_FILES, PROCESS, load

    spec = load(config)
    is_path = spec.kind in (*IMAGE_FILES, PROCESS) and "://" not in spec.image
    return config.parent / spec.image if is_path else None


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder, and one file is needed",
            hint=f"Pack it with: tar -czf {path.name}.tar.gz -C {path} .",
        )
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}, and it is no URL",
            hint="A URL starts with http:// or https://",
        )


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
