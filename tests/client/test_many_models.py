"""The tutorial's benchmark with eight models on two datasets: in a queue, and several at a time."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apptainer import open_folder
from tests.support.consortium import EXAMPLE, Consortium
from tests.support.docker_fixtures import engine
from tests.support.engines import APPTAINER, DOCKER, Shared, sharing
from tests.support.hospital import Hospital, approve, approved, as_committee
from tests.support.slurm import Slurm, eventually, slurm

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "slurm"]

MODELS = 8
SITES = ("hillcrest", "lakeside")
Outcomes = list[dict[str, Any]]


@dataclass
class Site:
    """A hospital with two datasets that are approved in the benchmark."""

    shared: Shared
    hospital: Hospital
    datasets: Sequence[str]

    def on(self, host: str) -> None:
        """Run containers there from now on."""
        self.shared.on(host, self.hospital.member)

    def start(self, *more: str) -> "list[subprocess.Popen[str]]":
        """Begin to run all models on each dataset, at the same time."""
        words = ("benchmark", "run", "-b", "1", "--no-cache", "--json", *more)
        return [self.hospital.member.start(*words, "-d", uid) for uid in self.datasets]

    def ended(self, clients: "Sequence[subprocess.Popen[str]]") -> Outcomes:
        """What became of all models, with the steps of each: those of the first dataset first."""
        outcomes = []
        for client in clients:
            said, told = client.communicate(timeout=400)
            assert client.returncode == 0, told
            outcomes += json.loads(said)
        member = self.hospital.member
        for one in outcomes:
            steps = member.json("result", "view", one["result"])["steps"]
            one["steps"] = [
                (step["step"], step["image_id"], step["inputs"], step["outputs"]) for step in steps
            ]
            assert [step["source"] for step in steps] == ["ran", "ran"]
        return outcomes


@pytest.fixture(scope="module")
def site(engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A hospital, and eight models that differ in a parameter, whose images are files."""
    with sharing(engine, tmp_path_factory.mktemp("consortium"), "DockerArchive") as shared:
        consortium = shared.consortium
        for number in range(1, MODELS):
            _another_model(consortium, number)
        hospital = Hospital(consortium, "hospital", tmp_path_factory.mktemp("data"))
        shared.on(APPTAINER, hospital.member)
        hospital.member.does("benchmark", "fetch", "1")
        datasets = []
        for name in SITES:
            # Where Apptainer's own root has it, too.
            source = EXAMPLE / "data" / "hospitals" / name
            hospital.data = shutil.copytree(source, hospital.data.parent / name)
            datasets.append(approved(hospital, name))
        yield Site(shared, hospital, datasets)


def _another_model(consortium: Consortium, number: int) -> None:
    file = consortium.host.folder / f"parameters-{number}.yaml"
    file.write_text(f"clip_at_sd: 6\ntemperature: 1.{number}\n")
    options = consortium.container_options("model_mlp")
    options[3] = f"{consortium.host.url}{file.name}"
    approve(consortium, f"model-{number}", options)


def test_apptainer_in_a_queue_gives_what_it_gives_on_this_machine(slurm: Slurm, site: Site) -> None:
    slurm.recover()
    site.on(APPTAINER)
    member = site.hospital.member
    member.environment |= slurm.environment
    with open_folder() as folder:
        settings = {
            "kind": "slurm",
            "shared_folder": str(folder / "shared"),
            "setup": [f"export PATH='{member.environment['PATH']}'"],
        }
        member.does("profile", "set", "executor", json.dumps(settings))
        with slurm.closed():
            clients = site.start()
            eventually(lambda: len(slurm.jobs()) == 2 * MODELS, "all models wait in the queue")
            rows = member.json("jobs", "ls")
        there = site.ended(clients)
        assert member.json("jobs", "ls") == [] and slurm.jobs() == []
        assert list((folder / "shared" / "elements").iterdir()) == []
        # An image of each container, and two datasets with data and labels.
        assert len(list(folder.glob("shared/content/trees/??/*/image.sif"))) == 3
    assert {(row["model"], str(row["dataset"])) for row in rows} == {
        (f"container {one['model']} ({one['name']})", uid) for one in there for uid in site.datasets
    }
    assert {(row["state"], row["reason"]) for row in rows} == {
        ("waits in the queue", "PartitionDown")
    }
    for uid in site.datasets:
        member.does("result", "submit", "--all", "-b", "1", "-d", uid, "-y")
    released = as_committee(site.hospital.consortium).json("benchmark", "results", "1")
    assert len(released) == 2 * MODELS
    assert {row["site"] for row in released} == set(SITES)
    here = site.ended(site.start("--executor", "local"))
    assert len(there) == 2 * MODELS and _compared(there) == _compared(here)
    assert len({json.dumps(one["results"]) for one in there}) == 2 * MODELS


def test_docker_gives_two_at_a_time_what_it_gives_one_by_one(site: Site) -> None:
    site.on(DOCKER)
    local = ("--executor", "local")
    two, one = (site.ended(site.start(*local, *more)) for more in (("--jobs", "2"), ()))
    assert len(two) == 2 * MODELS and _compared(two) == _compared(one)


def _compared(outcomes: Outcomes) -> list[tuple[Any, ...]]:
    return [(one["model"], one["results"], one["steps"]) for one in outcomes]
