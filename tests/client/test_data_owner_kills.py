"""Preparing and running may be killed at any moment: the next one goes on, and nothing is lost.

MEDPERF_TEST_KILLS says how often each kind of work is killed.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.kills import kill_at_random

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "4"))
MODELS = 3


@pytest.fixture
def hospital(own_consortium: Consortium, tmp_path: Path) -> Member:
    """A hospital whose data are registered as dataset 1, of a benchmark with several models."""
    committee = own_consortium.member("committee")
    config = own_consortium.host.folder / "model_logistic" / "container_config.yaml"
    for number in range(1, MODELS):
        changed = own_consortium.host.folder / f"model-{number}.yaml"
        changed.write_text(f"{config.read_text()}# model {number}\n")
        options = own_consortium.container_options("model_logistic")
        options[1] = f"{own_consortium.host.url}model-{number}.yaml"
        words = ("container", "submit", "--name", f"model-{number}", *options, "--operational")
        made = str(committee.json(*words, "-y")["id"])
        committee.does("container", "associate", "-b", "1", "-m", made, "-y")
    hospital = own_consortium.member("hospital")
    hospital.does("benchmark", "fetch", "1")
    data = shutil.copytree(EXAMPLE / "data" / "demo", tmp_path / "data")
    paths = ("-d", str(data / "measurements"), "-l", str(data / "diagnoses"))
    hospital.does("dataset", "submit", "-b", "1", *paths, "--name", "north", "-y")
    return hospital


def content(folder: Path) -> dict[str, bytes]:
    """What a folder holds, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_killed_preparations_lose_nothing(hospital: Member) -> None:
    chance = random.Random(22)
    words = ["dataset", "prepare", "-d", "1", "-y", "--no-cache"]
    started = time.monotonic()
    hospital.does(*words)
    longest = time.monotonic() - started
    folder = Path(hospital.json("dataset", "view", "1")["here"]["folder"])
    whole = content(folder / "data"), content(folder / "labels")
    hit = 0
    for _ in range(KILLS):
        hit += kill_at_random(hospital, words, longest, chance)
        hospital.does("dataset", "prepare", "-d", "1", "-y")
        assert (content(folder / "data"), content(folder / "labels")) == whole
        assert hospital.json("dataset", "view", "1")["here"]["prepared"]
    assert hit > 0
    hospital.does("storage", "gc")
    assert list((folder.parent / ".private" / "incoming").iterdir()) == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killed_runs_go_on_with_what_is_missing(
    own_consortium: Consortium, hospital: Member, jobs: str
) -> None:
    chance = random.Random(23)
    hospital.does("dataset", "prepare", "-d", "1", "-y")
    hospital.does("dataset", "set_operational", "-d", "1", "-y")
    hospital.does("dataset", "associate", "-d", "1", "-b", "1", "-y")
    own_consortium.member("committee").does("association", "approve", "-b", "1", "-d", "1", "-y")
    results = next(hospital.home.glob("registries/*/results"))
    words = ["benchmark", "run", "-b", "1", "-d", "1", "--jobs", jobs]
    started = time.monotonic()
    first = hospital.json(*words, "--no-cache")
    longest = time.monotonic() - started
    numbers = {one["model"]: one["results"] for one in first}
    assert len(numbers) == MODELS
    hit = 0
    for _ in range(KILLS):
        shutil.rmtree(results)
        hit += kill_at_random(hospital, [*words, "--no-cache"], longest, chance)
        kept = {path.name: path.read_bytes() for path in results.glob("*.json")}
        found = hospital.json(*words)
        assert {one["model"]: one["results"] for one in found} == numbers
        # What was there stays as it was: each outcome is there the moment it is made.
        assert all((results / name).read_bytes() == text for name, text in kept.items())
        assert len(list(results.glob("*.json"))) == MODELS
    assert hit > 0
    hospital.does(*words, "--no-cache")
    private = next(hospital.home.glob("registries/*/datasets/.private/incoming"))
    assert list(private.iterdir()) == []
