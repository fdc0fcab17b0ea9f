"""The tutorial through a real engine: images pushed, pulled, run, and run again with no network."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.consortium import EXAMPLE, Consortium, FileHost, Member
from tests.support.docker_fixtures import engine, image_registry
from tests.support.images import ARM_ONLY, ImageRegistry, answering, build
from tests.support.registry import Registry
from tests.support.reports import ALL_STEPS, change_a_weight, ran, report_of

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "image_registry"]

CONTAINERS = ("data_preparator", "model_logistic", "model_mlp", "metrics")


@pytest.fixture
def docker_consortium(
    tmp_path: Path, registry: Registry, engine: "DockerClient", image_registry: ImageRegistry
) -> Iterator[Consortium]:
    """A consortium whose images are in a registry, and not (any more) on the engine."""
    names = [f"medperf/breast-cancer-{container}:1.0" for container in CONTAINERS]
    references = [
        image_registry.push(engine, build(engine, EXAMPLE / container, name), name)
        for container, name in zip(CONTAINERS, names, strict=True)
    ]
    for reference in [*names, *references]:
        engine.images.remove(reference)
    consortium = Consortium(
        tmp_path, registry, "docker", image_prefix=f"{image_registry.address}/medperf/"
    )
    consortium.make_benchmark()
    yield consortium
    consortium.host.stop()
    for reference in references:
        engine.images.remove(reference, force=True)


def test_the_tutorial_through_an_engine_and_then_without_any_network(
    docker_consortium: Consortium,
    image_registry: ImageRegistry,
    engine: "DockerClient",
    tmp_path: Path,
) -> None:
    consortium = docker_consortium
    owner = consortium.member("owner")
    model = tmp_path / "model"
    shutil.copytree(consortium.candidate, model)

    report = report_of(owner, model)
    assert ran(report) == ALL_STEPS and report["results"]["auroc"] > 0.95
    pulled = engine.images.get(f"{image_registry.address}/medperf/breast-cancer-model_mlp:1.0")
    assert pulled.id == f"sha256:{report['steps'][3]['image_id']}"

    options = consortium.container_options("model_mlp")
    container = owner.json(
        *("container", "submit", "--name", "my-model", *options, "--operational", "-y")
    )
    assert (container["id"], container["image_hash"]) == (4, report["steps"][3]["image_id"])
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "4", "-y")
    consortium.member("committee").does(
        "association", "approve", "--benchmark", "1", "--model_uid", "4", "-y"
    )
    (association,) = owner.json("association", "ls", "-bm")
    assert association["approval_status"] == "APPROVED"

    consortium.stop()
    image_registry.stop()
    change_a_weight(model)
    offline = report_of(owner, model)
    assert offline["passed"] and ran(offline) == ["infer", "evaluate"]
    assert "breast-cancer" in owner.does("benchmark", "ls")
    assert report_of(owner, 4)["passed"]
    image_registry.start()


def test_an_unchanged_repeat_starts_no_container(
    docker_consortium: Consortium, engine: "DockerClient"
) -> None:
    owner = docker_consortium.member("owner")
    report_of(owner, docker_consortium.candidate)
    since = engine.info()["SystemTime"]
    assert ran(report_of(owner, docker_consortium.candidate)) == []
    until = engine.info()["SystemTime"]
    events = engine.events(
        since=since, until=until, filters={"event": "create", "type": "container"}
    )
    assert list(events) == []


@pytest.mark.parametrize("repository", ["site/model", "Bugs/Mini"])
def test_an_image_that_no_waiting_brings_is_refused_and_not_queued(
    registry: Registry, engine: "DockerClient", tmp_path: Path, repository: str
) -> None:
    member = Member(tmp_path / "home", registry.url, registry.token_for("owner@example.org"))
    host = FileHost(tmp_path / "hosted")
    with answering(200, json.dumps(ARM_ONLY).encode(), str(ARM_ONLY["mediaType"])) as address:
        (host.folder / "container_config.yaml").write_text(
            f"container_type: DockerImage\nimage: {address}/{repository}:1\n"
            "tasks: {infer: {}}\n"
        )
        url = f"{host.url}container_config.yaml"
        done = member.run("container", "submit", "--name", "model", "-c", url, "-y")
    host.stop()
    assert done.returncode == 1 and f"{repository}:1" in done.stderr
    assert member.json("queue", "ls") == []
