"""Hospitals: members of a consortium with data that its benchmark wants."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from medperf_client.registry.client import Registry as Client
from tests.support.consortium import EXAMPLE, Consortium, Member

REQUEST = ("association", "approve", "-b", "1", "-d")


class Hospital:
    """A member with data that a consortium's benchmark wants."""

    def __init__(self, consortium: Consortium, name: str, folder: Path) -> None:
        self.consortium, self.name = consortium, name
        self.member = consortium.member(name)
        self.data = shutil.copytree(EXAMPLE / "data" / "demo", folder / name)

    def submit(self, *more: str, name: str = "north") -> str:
        """Register the data; the UID."""
        paths = ("-d", str(self.data / "measurements"), "-l", str(self.data / "diagnoses"))
        made = self.member.json("dataset", "submit", "-b", "1", *paths, "--name", name, "-y", *more)
        return str(made["id"])

    def elsewhere(self, home: str) -> "Hospital":
        """The same member, at another machine."""
        other = copy.copy(self)
        other.member = self.consortium.member(self.name, home=home)
        return other

    def operational(self, name: str = "north") -> str:
        """Register the data, prepare them, and set them operational; the UID."""
        uid = self.submit(name=name)
        self.member.does("dataset", "prepare", "-d", uid, "-y")
        self.member.does("dataset", "set_operational", "-d", uid, "-y")
        return uid


@pytest.fixture
def hospital(own_consortium: Consortium, tmp_path: Path) -> Hospital:
    """A hospital that has the benchmark's containers."""
    hospital = Hospital(own_consortium, "hospital", tmp_path)
    hospital.member.does("benchmark", "fetch", "1")
    return hospital


def as_committee(consortium: Consortium) -> Member:
    """The committee at its own machine."""
    committee = consortium.member("committee")
    committee.does("sync")
    return committee


def direct(consortium: Consortium, name: str, admin: bool = False) -> Client:
    """A member who asks the registry itself."""
    return Client(
        consortium.registry.url, consortium.registry.token_for(f"{name}@example.org", admin=admin)
    )


def with_another_model(consortium: Consortium, name: str = "mlp", tail: str = "") -> int:
    """Have one more model approved in the benchmark, with `tail` in its program; its UID."""
    folder = consortium.host.folder
    options = consortium.container_options("model_mlp")
    if tail:
        text = (folder / "model_mlp" / "container_config.yaml").read_text()
        (folder / f"{name}.yaml").write_text(text.replace("main.py", tail))
        options[1] = f"{consortium.host.url}{name}.yaml"
    return approve(consortium, name, options)


def approve(consortium: Consortium, name: str, options: list[str]) -> int:
    """Have a model with these options of `container submit` approved in the benchmark; its UID."""
    committee = as_committee(consortium)
    words = ("container", "submit", "--name", name, *options, "--operational", "-y")
    uid: int = committee.json(*words)["id"]
    association = {"model_mlcube": uid, "benchmark": 1, "approval_status": "PENDING"}
    # Both sides are theirs, so it is approved at once.
    direct(consortium, "committee").post(
        "/mlcubes/benchmarks/", {**association, "metadata": {}}, f"{uid:036}"
    )
    return uid


def approved(hospital: Hospital, name: str = "north") -> str:
    """A dataset that is approved in the benchmark, as it is known at the hospital; its UID."""
    uid = hospital.operational(name)
    hospital.member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    as_committee(hospital.consortium).does(*REQUEST, uid, "-y")
    hospital.member.does("sync")
    return uid


def released_by(hospital: Hospital) -> dict[str, Any]:
    """A result of the reference model that a hospital has signed and released, as it is stored."""
    member, uid = hospital.member, hospital.operational()
    member.json("key", "create", "--name", "north")
    member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    as_committee(hospital.consortium).does(*REQUEST, uid, "-y")
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    member.does("sync")
    member.does("result", "submit", "--all", "-b", "1", "-d", uid, "-y")
    (result,) = direct(hospital.consortium, "administrator", admin=True).pages("/results/")
    return dict(result)
