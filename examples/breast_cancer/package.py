"""Lay the benchmark's files out for hosting: what `medperf` is given paths and URLs of.

    python package.py OUT --platform docker|process [--image-prefix PREFIX] [--base-url URL]

Each container's folder in OUT is complete: it also holds the files of `shared/` that several
containers need, for an image is built from that folder alone (`docker build OUT/metrics`). Prints
the SHA-256 of each file to host, as `sha256sum` does. The same bytes come out on every run. Needs
nothing but Python.
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
PREPARATORS = ("data_preparator", "data_preparator_staged")
MODELS = ("model_logistic", "model_mlp")
CONTAINERS = (*PREPARATORS, *MODELS, "metrics")
# Code that stands in `shared/` once, and the containers whose code it becomes part of.
SHARED_CODE = {
    "container.py": CONTAINERS,
    "patients.py": MODELS,
    **dict.fromkeys(
        ("columns.py", "policy.py", "raw.py", "sanity_check.py", "summary.py", "tables.py"),
        PREPARATORS,
    ),
}
SHARED_BUILD = ("Dockerfile", ".dockerignore")
PLATFORMS = ("docker", "process")
IMAGE_PREFIX = "127.0.0.1:5000/medperf/"
VERSION = "1.0"
# Files by the path that each will have in a folder or an archive.
Files = dict[str, Path]


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
    Its Dockerfile and code stand beside its configuration. A process container's code is named by
    its URL under `base_url`; without one, by the path of the copy beside its configuration. Files
    that are there already are overwritten.
    """
    if platform not in PLATFORMS:
        raise ValueError(f"platform is {platform!r}; expected one of {', '.join(PLATFORMS)}")
    return Layout(
        {name: pack(name, out, platform, image_prefix, base_url) for name in CONTAINERS},
        archive(members(HERE / "data" / "demo"), out / "assets" / "demo_data.tar.gz"),
    )


def pack(name: str, out: Path, platform: str, image_prefix: str, base_url: str | None) -> Container:
    """Write one container's files."""
    source, target, assets = HERE / name, out / name, out / "assets"
    additional = source / "workspace" / "additional_files"
    project = None
    image = f"{image_prefix}breast-cancer-{name}:{VERSION}"
    if platform == "docker":
        copy(build_context(source), target)
    else:
        project = archive(code(source), assets / f"{name}_project.tar.gz")
        image = f"{base_url.rstrip('/')}/assets/{project.path.name}" if base_url else "project"
        if not base_url:
            copy(code(source), target / image)
    copy(members(source / "workspace"), target / "workspace")
    return Container(
        image,
        write(target / "container_config.yaml", configuration(source, platform, image).encode()),
        hosted(target / "workspace" / "parameters.yaml"),
        archive(members(additional), assets / f"{name}_additional_files.tar.gz")
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


def code(source: Path) -> Files:
    """Return the code of the container whose folder is `source`: its own, and what it shares."""
    shared = [name for name, holders in SHARED_CODE.items() if source.name in holders]
    return {**{name: HERE / "shared" / name for name in shared}, **members(source / "project")}


def build_context(source: Path) -> Files:
    """Return what the image of the container whose folder is `source` is built from."""
    build = {name: HERE / "shared" / name for name in SHARED_BUILD}
    return {**build, **{f"project/{name}": path for name, path in code(source).items()}}


def members(folder: Path) -> Files:
    """Return the files under `folder`, without what Python compiled."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.relative_to(folder).parts
    }


def copy(files: Files, target: Path) -> None:
    """Copy files into the folder `target`."""
    for name, path in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def archive(files: Files, target: Path) -> Hosted:
    """Write a .tar.gz of files that depends on their names and bytes alone."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in sorted(files.items()):
            # A new TarInfo has owner root, mode 0644 and time 0.
            entry = tarfile.TarInfo(name)
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
