"""A consortium whose images are shared, and sites that run them on different engines."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from medperf_client.containers import sif
from medperf_client.containers.docker import DockerRunner
from tests.support.apptainer import on_path, path_with_apptainer
from tests.support.consortium import EXAMPLE, Consortium, Member, packaging
from tests.support.images import ImageRegistry, build
from tests.support.registry import Registry
from tests.support.reports import CONFIG

if TYPE_CHECKING:
    from docker import DockerClient

DOCKER = "unix:///var/run/docker.sock"
SIF = "SingularityFile"
# In place of an engine's address.
APPTAINER = "apptainer"
NOBODYS = "unix:///nobody/listens.sock"
LABEL = "org.mlcommons.medperf.test"
NAMES = ("data_preparator", "model_logistic", "model_mlp", "metrics")
# Registered by the digest of its manifest, as MedPerf does; the others by their configurations'.
BY_MANIFEST = "data_preparator"
numbers = itertools.count(1)


@dataclass
class Shared:
    """A consortium that was made with Docker's classic store, and an image registry.

    By container, `ids` are the images' IDs, `pins` what a submission finds for itself.
    """

    consortium: Consortium
    images: ImageRegistry
    ids: dict[str, str]
    pins: dict[str, str]
    mark: str

    def site(self, host: str) -> Member:
        """A member on a new machine with that engine, which has none of the images."""
        return self.on(host, self.consortium.member("site", home=f"site-{next(numbers)}"))

    def island(self, host: str) -> Member:
        """The same, who has no token."""
        home = self.consortium.folder / "homes" / f"island-{next(numbers)}"
        return self.on(host, Member(home, self.consortium.registry.url))

    def on(self, host: str, member: Member) -> Member:
        """The same member, on that engine from now on."""
        if host == APPTAINER:
            member.environment |= {"PATH": path_with_apptainer(), "DOCKER_HOST": NOBODYS}
        else:
            member.environment["DOCKER_HOST"] = host
            self.lose(host)
        return member

    def lose(self, host: str) -> None:
        """`docker image rm` of every image of the consortium."""
        if host == APPTAINER:
            return
        client = _client(host)
        for image in client.images.list(filters={"label": f"{LABEL}={self.mark}"}):
            client.images.remove(image.id, force=True)
        client.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stop the registry, its hosts and the image registry for the block."""
        self.consortium.stop()
        self.images.stop()
        try:
            yield
        finally:
            self.consortium.start()
            self.images.start()

    @property
    def of_steps(self) -> list[str]:
        """The images of the five steps with model 2."""
        names = (*[BY_MANIFEST] * 3, "model_logistic", "metrics")
        return [self.ids[name] for name in names]


class _Mixed(Consortium):
    """A consortium whose data preparator is registered by the digest of its manifest."""

    manifest = ""

    def container_options(self, name: str) -> list[str]:
        """See `Consortium`."""
        more = ["--image-hash", self.manifest] if name == BY_MANIFEST and self.manifest else []
        return [*super().container_options(name), *more]


def _client(host: str) -> "DockerClient":
    import docker

    return docker.DockerClient(base_url=host)


@contextmanager
def sharing(engine: "DockerClient", folder: Path, kind: str) -> Iterator[Shared]:
    """A consortium of containers of that kind."""
    images = ImageRegistry(folder)
    images.start()
    try:
        for registry in Registry.serving(folder / "registry"):
            yield from _made(engine, folder, kind, registry, images)
    finally:
        images.stop()


def _made(
    engine: "DockerClient", folder: Path, kind: str, registry: Registry, images: ImageRegistry
) -> Iterator[Shared]:
    pins, prefix, mark = {}, f"{images.address}/medperf-engines/", uuid4().hex
    consortium = _Mixed(folder, registry, "docker", image_prefix=prefix)
    try:
        ids = {name: _built(engine, folder / name, name, mark, kind) for name in NAMES}
        for name in NAMES:
            images.push(engine, ids[name], f"medperf-engines/breast-cancer-{name}:1.0")
        if kind == "DockerImage":
            digests = engine.images.get(f"sha256:{ids[BY_MANIFEST]}").attrs["RepoDigests"]
            consortium.manifest = digests[0].rpartition(":")[2]
            pins = ids
        else:
            as_file = _as_sif if kind == SIF else _as_archive
            pins = {name: as_file(consortium, name, ids[name]) for name in NAMES}
        with on_path() if kind == SIF else nullcontext():
            consortium.make_benchmark()
        # A file of Apptainer's is the image, and has no other ID.
        made = Shared(consortium, images, pins if kind == SIF else ids, pins, mark)
        yield made
        made.lose(DOCKER)
    finally:
        consortium.host.stop()


def _built(engine: "DockerClient", context: Path, name: str, mark: str, kind: str) -> str:
    """An image of a container of the tutorial, of an ID that no other test has."""
    package = packaging()
    package.copy(package.build_context(EXAMPLE / name), context)
    more = ""
    if kind == SIF:
        # Files of Apptainer's are run by scripts.
        shutil.copy(os.path.realpath("/bin/sh"), context / "sh")
        more = "COPY sh /bin/sh\n"
    # No layer of it is one that an engine may have packed otherwise, of another image.
    (context / "Dockerfile").write_text(
        "ARG BASE\nFROM $BASE AS base\nFROM scratch\nCOPY --from=base / /\nCOPY project /project\n"
        f"WORKDIR /project\nENV PATH=/usr/local/bin\nLABEL {LABEL}={mark}\n{more}"
    )
    return build(engine, context, f"localhost/medperf-engines/{name}:{mark}")


def _as_archive(consortium: Consortium, name: str, image_id: str) -> str:
    """Have a container's configuration name what `docker save` writes; returns its SHA-256."""
    file = consortium.host.folder / "assets" / f"{name}.tar"
    file.write_bytes(b"".join(DockerRunner().save(image_id)))
    return _hosted(consortium, name, "DockerArchive", file)


def _as_sif(consortium: Consortium, name: str, image_id: str) -> str:
    """The same, of what somebody built with Apptainer: only Docker starts in the image's folder."""
    file = consortium.host.folder / "assets" / f"{name}.sif"
    saved = consortium.folder / f"{name}.tar"
    saved.write_bytes(b"".join(DockerRunner().save(image_id)))
    words = ["apptainer", "--silent", "build", *sif.QUICKLY, str(file), f"docker-archive:{saved}"]
    subprocess.run(words, check=True, env={**os.environ, "PATH": path_with_apptainer()})
    saved.unlink()
    config = consortium.host.folder / name / CONFIG
    config.write_text(config.read_text().replace(" main.py ", " /project/main.py "))
    return _hosted(consortium, name, SIF, file)


def _hosted(consortium: Consortium, name: str, kind: str, file: Path) -> str:
    config = consortium.host.folder / name / CONFIG
    lines = config.read_text().replace("DockerImage", kind).splitlines()
    url = f"{consortium.host.url}assets/{file.name}"
    config.write_text(
        "\n".join(f"image: {url}" if line.startswith("image:") else line for line in lines)
    )
    return sha256(file.read_bytes()).hexdigest()
