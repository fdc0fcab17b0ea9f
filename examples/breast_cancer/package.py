"""Lay the benchmark's files out for hosting: what `medperf` is given paths and URLs of.

    python package.py OUT --platform docker|process [--image-prefix PREFIX] [--base-url URL]

Prints the SHA-256 of each file, as `sha256sum` does. The same bytes come out on every run. Needs
nothing but Python; Docker images are built from the containers' own folders.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONTAINERS = ("data_preparator", "model_logistic", "model_mlp", "metrics")
PLATFORMS = ("docker", "process")
IMAGE_PREFIX = "127.0.0.1:5000/medperf/"
VERSION = "1.0"


@dataclass(frozen=True)
class Hosted:
    """A file to host, and its SHA-256 in hexadecimal."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Container:
    """A container's files.

    `image` is what its configuration names. `additional_files` is None where it has none,
    `project` where the platform is docker.
    """

    image: str
    config: Hosted
    parameters: Hosted
    additional_files: Hosted | None
    project: Hosted | None


@dataclass(frozen=True)
class Layout:
    """All files written: each container's, by its name, and the demo data."""

    containers: dict[str, Container]
    demo_data: Hosted

    def files(self) -> Iterator[Hosted]:
        """Yield every file."""
        for parts in self.containers.values():
            for part in (parts.config, parts.parameters, parts.additional_files, parts.project):
                if part is not None:
                    yield part
        yield self.demo_data


def package(
    out: Path, platform: str, image_prefix: str = IMAGE_PREFIX, base_url: str | None = None
) -> Layout:
    """Write everything under the folder `out`, and return what was written.

    `platform` is docker or process. A docker image is named `<image_prefix>breast-cancer-<name>`.
    A process container's code is named by its URL under `base_url`; without one, by the path of
    the copy beside its configuration. Files that are there already are overwritten.
    """
    if platform not in PLATFORMS:
        raise ValueError(f"platform is {platform!r}; expected one of {', '.join(PLATFORMS)}")
    return Layout(
        {name: pack(name, out, platform, image_prefix, base_url) for name in CONTAINERS},
        archive(HERE / "data" / "demo", out / "assets" / "demo_data.tar.gz"),
    )


def pack(name: str, out: Path, platform: str, image_prefix: str, base_url: str | None) -> Container:
    """Write one container's files."""
    source, target, assets = HERE / name, out / name, out / "assets"
    additional = source / "workspace" / "additional_files"
    project = None
    image = f"{image_prefix}breast-cancer-{name}:{VERSION}"
    if platform == "process":
        project = archive(source / "project", assets / f"{name}_project.tar.gz")
        image = f"{base_url.rstrip('/')}/assets/{project.path.name}" if base_url else "project"
        if not base_url:
            copy(source / "project", target / image)
    copy(source / "workspace", target / "workspace")
    return Container(
        image,
        write(target / "container_config.yaml", configuration(source, platform, image).encode()),
        hosted(target / "workspace" / "parameters.yaml"),
        archive(additional, assets / f"{name}_additional_files.tar.gz")
        if additional.is_dir()
        else None,
        project,
    )


def configuration(source: Path, platform: str, image: str) -> str:
    """Return a container's configuration for a platform and image."""
    kind = {"docker": "DockerImage", "process": "Process"}[platform]
    text = (source / "container_config.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^container_type: .*$", lambda _: f"container_type: {kind}", text)
    return re.sub(r"(?m)^image: .*$", lambda _: f"image: {image}", text)


def members(folder: Path) -> list[Path]:
    """Return the files under `folder` in a fixed order, without what Python compiled."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.relative_to(folder).parts
    )


def copy(source: Path, target: Path) -> None:
    """Copy the files under `source`."""
    for path in members(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def archive(source: Path, target: Path) -> Hosted:
    """Write a .tar.gz of the files under `source` that depends on their names and bytes alone."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in members(source):
            # A new TarInfo has owner root, mode 0644 and time 0.
            entry = tarfile.TarInfo(path.relative_to(source).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return write(target, buffer.getvalue())


def write(path: Path, content: bytes) -> Hosted:
    """Write a file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hosted(path)


def hosted(path: Path) -> Hosted:
    """Return a file with its digest."""
    return Hosted(path, hashlib.sha256(path.read_bytes()).hexdigest())


def main() -> None:
    """Read the command line, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--platform", required=True, choices=PLATFORMS)
    parser.add_argument("--image-prefix", default=IMAGE_PREFIX, help="default: %(default)s")
    parser.add_argument("--base-url", help="where OUT will be hosted")
    choice = parser.parse_args()
    layout = package(choice.out, choice.platform, choice.image_prefix, choice.base_url)
    for file in layout.files():
        print(f"{file.sha256}  {file.path}")


if __name__ == "__main__":
    main()
