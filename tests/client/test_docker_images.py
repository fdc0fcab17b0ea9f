"""Copies of images: made by a fetch, shared by layer, and back on the engine when it lost them."""

import base64
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.support.consortium import EXAMPLE, Consortium, Member, not_json
from tests.support.docker_fixtures import engine
from tests.support.images import ImageRegistry, build
from tests.support.registry import Registry
from tests.support.reports import ALL_STEPS, ran, report_of

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine"]

_numbers = itertools.count(1)
CONTAINERS = ("data_preparator", "model_logistic", "model_mlp", "metrics")
PASSWORD = "aspirate"
HTPASSWD = "site:$2b$04$VA9ibKOGb/CnDcEy3iqg/eRninvgW0GvAwFa6TOnKx72GYqsC5vIe"


class Images:
    """The images of the tutorial's containers, of IDs that no other test has."""

    def __init__(self, engine: "DockerClient", registry: ImageRegistry, folder: Path) -> None:
        self._engine, self.mark = engine, uuid4().hex
        self.prefix = f"{registry.address}/medperf-copies/"
        self.ids: dict[str, str] = {}
        for container in CONTAINERS:
            context = folder / container
            shutil.copytree(EXAMPLE / container, context)
            # A layer of its own, too large to be kept in a recipe.
            (context / "project" / "mark").write_text(f"{container} {self.mark}\n" * 100)
            name = f"medperf-copies/breast-cancer-{container}:1.0"
            self.ids[container] = build(
                engine, context, f"localhost/medperf-copies/{self.mark}:1.0"
            )
            registry.push(engine, self.ids[container], name)
        self.lose()

    def here(self) -> set[str]:
        """Those of the images that the engine has."""
        known = {str(image.id).removeprefix("sha256:") for image in self._engine.images.list()}
        return known & set(self.ids.values())

    def lose(self) -> None:
        """`docker image rm` of every one."""
        for image_id in self.here():
            self._engine.images.remove(f"sha256:{image_id}", force=True)
        assert self.here() == set()


@pytest.fixture(scope="module")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    """An image registry that serves, but for what a test does to it."""
    registry = ImageRegistry(tmp_path_factory.mktemp("images"))
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture(scope="module")
def built(
    engine: "DockerClient", image_registry: ImageRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Images:
    """The images, in that registry."""
    return Images(engine, image_registry, tmp_path_factory.mktemp("contexts"))


@pytest.fixture(scope="module")
def docker_consortium(
    built: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Consortium]:
    """A consortium that has benchmark 1, of these images."""
    folder = tmp_path_factory.mktemp("consortium")
    for registry in Registry.serving(folder / "registry"):
        consortium = Consortium(folder, registry, "docker", image_prefix=built.prefix)
        consortium.make_benchmark()
        yield consortium
        consortium.host.stop()


@pytest.fixture
def images(built: Images, docker_consortium: Consortium) -> Iterator[Images]:
    """The images, none of which is on the engine (any more)."""
    built.lose()
    yield built
    built.lose()


@pytest.fixture
def site(docker_consortium: Consortium, images: Images) -> Member:
    """A member on a new machine, whose engine has none of the images."""
    return docker_consortium.member("site", home=f"site-{next(_numbers)}")


@contextmanager
def away(*services: Consortium | ImageRegistry) -> Iterator[None]:
    """Stop services for the block."""
    for service in services:
        service.stop()
    try:
        yield
    finally:
        for service in services:
            service.start()


def test_a_fetched_benchmark_runs_after_the_engine_lost_every_image_with_all_services_away(
    docker_consortium: Consortium, image_registry: ImageRegistry, images: Images, site: Member
) -> None:
    fetched = site.json("benchmark", "fetch", "1")
    assert fetched["ready"]
    assert images.here() == {images.ids[name] for name in CONTAINERS if name != "model_mlp"}
    # The three images share all but one layer, so they take little more than one of them.
    sizes = [part["bytes"] for part in fetched["parts"] if part["part"] == "image"]
    assert max(sizes) > 10_000_000 and fetched["bytes"] < 1.1 * max(sizes)

    images.lose()
    with away(docker_consortium, image_registry):
        assert site.json("benchmark", "status", "1") == fetched
        assert site.json("benchmark", "fetch", "1") == fetched
        assert images.here() == set()
        report = report_of(site, 2)
        assert report["passed"] and ran(report) == ALL_STEPS
        assert {step["image_id"] for step in report["steps"]} == images.here()

        # A model of one's own that is in a known image needs nobody for it either.
        images.lose()
        candidate = docker_consortium.host.folder / "model_logistic"
        assert ran(report_of(site, candidate, "--no-cache")) == ALL_STEPS


def test_a_bundle_brings_the_images_to_a_machine_that_never_had_them_or_a_network(
    docker_consortium: Consortium,
    image_registry: ImageRegistry,
    images: Images,
    site: Member,
    tmp_path: Path,
) -> None:
    site.json("benchmark", "fetch", "1")
    file = str(tmp_path / "benchmark.bundle")
    site.does("bundle", "export", file, "--benchmark", "1")
    images.lose()
    island = Member(tmp_path / "island", docker_consortium.registry.url)
    with away(docker_consortium, image_registry):
        assert island.json("bundle", "import", file)["missing"] == []
        assert island.json("benchmark", "status", "1")["ready"]
        assert images.here() == set()
        report = report_of(island, 2)
        assert report["passed"] and ran(report) == ALL_STEPS
        assert {step["image_id"] for step in report["steps"]} == images.here()


def test_without_a_copy_status_says_what_a_lost_image_means(images: Images, site: Member) -> None:
    assert report_of(site, 2)["passed"]
    status = site.json("benchmark", "status", "1")
    kept = {part["part"]: part["bytes"] for part in status["parts"]}
    assert status["ready"] and kept["image"] == 0

    images.lose()
    status, _ = not_json(site, "benchmark", "status", "1")
    missing = [part for part in status["parts"] if not part["ready"]]
    assert [part["part"] for part in missing] == ["image"] * 3
    assert all("neither the engine nor the cache has" in part["missing"] for part in missing)

    site.environment["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    status, _ = not_json(site, "benchmark", "status", "1")
    reasons = [part["missing"] for part in status["parts"] if not part["ready"]]
    assert len(reasons) == 3 and all("no container engine answers" in one for one in reasons)


def test_a_private_registry_is_entered_with_the_engines_own_credentials(
    image_registry: ImageRegistry, images: Images, site: Member, tmp_path: Path
) -> None:
    configuration = tmp_path / "docker"
    configuration.mkdir()
    site.environment["DOCKER_CONFIG"] = str(configuration)
    with image_registry.private(HTPASSWD):
        refused, said = not_json(site, "benchmark", "fetch", "1")
        missing = [part for part in refused["parts"] if not part["ready"]]
        assert [part["part"] for part in missing] == ["image"] * 3
        assert "no basic auth credentials" in said or "unauthorized" in said

        secret = base64.b64encode(f"site:{PASSWORD}".encode()).decode()
        login = {"auths": {image_registry.address: {"auth": secret}}}
        (configuration / "config.json").write_text(json.dumps(login))
        assert site.json("benchmark", "fetch", "1")["ready"]
    assert len(images.here()) == 3


def test_a_copy_that_was_damaged_is_named_and_fetched_again(images: Images, site: Member) -> None:
    fetched = site.json("benchmark", "fetch", "1")
    images.lose()
    for path in Path(site.home, "cache", "blobs").glob("*/*"):
        content = path.read_bytes()
        if images.mark.encode() in content:
            path.chmod(0o600)
            path.write_bytes(content.replace(images.mark.encode(), b"rotten" + b" " * 26))
    named = ("test", "run", "--benchmark", "1", "--model", "2", "--no-cache")
    done = site.run(*named)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the copy of" in done.stderr and "medperf storage verify --remove" in done.stderr
    site.does("storage", "verify", "--remove")
    assert site.json("benchmark", "fetch", "1") == fetched
    images.lose()
    site.does(*named)
