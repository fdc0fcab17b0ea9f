"""Copies of images: made by a fetch, shared by layer, and back on the engine when it lost them."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.client.test_compatibility import ALL_STEPS, ran, report_of
from tests.client.test_provisions import not_json
from tests.support.consortium import EXAMPLE, Consortium
from tests.support.docker_fixtures import engine, image_registry
from tests.support.images import ImageRegistry, build
from tests.support.registry import Registry

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "image_registry"]

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


@pytest.fixture
def images(
    engine: "DockerClient", image_registry: ImageRegistry, tmp_path: Path
) -> Iterator[Images]:
    """The images in the registry, and not on the engine."""
    made = Images(engine, image_registry, tmp_path / "contexts")
    yield made
    made.lose()


@pytest.fixture
def docker_consortium(tmp_path: Path, registry: Registry, images: Images) -> Iterator[Consortium]:
    """A consortium that has benchmark 1; its images are not on the engine (any more)."""
    consortium = Consortium(tmp_path, registry, "docker", image_prefix=images.prefix)
    consortium.make_benchmark()
    images.lose()
    yield consortium
    consortium.host.stop()


def test_a_fetched_benchmark_runs_after_the_engine_lost_every_image_with_all_services_away(
    docker_consortium: Consortium, image_registry: ImageRegistry, images: Images
) -> None:
    site = docker_consortium.member("site")
    fetched = site.json("benchmark", "fetch", "1")
    assert fetched["ready"]
    assert images.here() == {images.ids[name] for name in CONTAINERS if name != "model_mlp"}
    # The three images share all but one layer, so they take little more than one of them.
    sizes = [part["bytes"] for part in fetched["parts"] if part["part"] == "image"]
    assert max(sizes) > 10_000_000 and fetched["bytes"] < 1.1 * max(sizes)

    images.lose()
    docker_consortium.stop()
    image_registry.stop()
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
    image_registry.start()


def test_without_a_copy_status_says_what_a_lost_image_means(
    docker_consortium: Consortium, images: Images
) -> None:
    site = docker_consortium.member("site")
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
    docker_consortium: Consortium, image_registry: ImageRegistry, images: Images, tmp_path: Path
) -> None:
    image_registry.make_private(HTPASSWD)
    site = docker_consortium.member("site")
    configuration = tmp_path / "docker"
    configuration.mkdir()
    site.environment["DOCKER_CONFIG"] = str(configuration)
    refused, said = not_json(site, "benchmark", "fetch", "1")
    missing = [part for part in refused["parts"] if not part["ready"]]
    assert [part["part"] for part in missing] == ["image"] * 3
    assert "no basic auth credentials" in said or "unauthorized" in said

    secret = base64.b64encode(f"site:{PASSWORD}".encode()).decode()
    login = {"auths": {image_registry.address: {"auth": secret}}}
    (configuration / "config.json").write_text(json.dumps(login))
    assert site.json("benchmark", "fetch", "1")["ready"]
    assert len(images.here()) == 3


def test_a_copy_that_was_damaged_is_named_and_fetched_again(
    docker_consortium: Consortium, images: Images
) -> None:
    site = docker_consortium.member("site")
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
