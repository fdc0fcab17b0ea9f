"""The data owner's tutorial works as it is written, with the registry there and with it away."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from medperf_client.registry.client import Registry as Client
from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.forks import ROOT
from tests.support.tutorials import Typed, typed

TUTORIAL = ROOT / "docs" / "data-owner-tutorial.md"
OFFLINE = "The same without a network"
STAGED = "A container that works in stages"
# The mean and the worst radius of a patient.
MIXED_UP = ("P7092323", "0,01334", "0,01553")


@pytest.fixture
def consortium_of_two_models(own_consortium: Consortium) -> Consortium:
    """A consortium whose benchmark has the reference model, and model 4 by somebody else."""
    owner, committee = own_consortium.member("owner"), own_consortium.member("committee")
    options = own_consortium.container_options("model_mlp")
    owner.does("container", "submit", "--name", "my-model", *options, "--operational", "-y")
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "4", "-y")
    committee.does("association", "approve", "--benchmark", "1", "--model_uid", "4", "-y")
    return own_consortium


class Reader:
    """Who follows the tutorial in a folder that has the data of one of the example's sites."""

    def __init__(self, consortium: Consortium, folder: Path, data_of: str) -> None:
        self.member, self.folder = consortium.member(data_of), folder / data_of
        for part in ("measurements", "diagnoses"):
            place = self.folder / "hospital" / part
            place.mkdir(parents=True)
            shutil.copy(EXAMPLE / "data" / "demo" / part / f"{data_of}.csv", place)
        self.measurements = self.folder / "hospital" / "measurements" / f"{data_of}.csv"

    def swap(self, patient: str, one: str, other: str) -> None:
        """Let two cells of a patient change places."""
        text = self.measurements.read_text(encoding="utf-8")
        (line,) = [line for line in text.splitlines() if patient in line]
        cells = [{one: other, other: one}.get(cell, cell) for cell in line.split(";")]
        self.measurements.write_text(text.replace(line, ";".join(cells)), encoding="utf-8")

    def types(
        self, command: Typed, member: Member | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Type a command and agree to what it asks; it must end as it is said to."""
        who = member or self.member
        done = who.run(*command.words, answers="y\n", cwd=self.folder)
        assert done.returncode == command.exit_code, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


def asked(consortium: Consortium, name: str) -> Client:
    """A member who asks the registry itself."""
    return Client(consortium.registry.url, consortium.registry.token_for(f"{name}@example.org"))


def test_the_tutorial_works_to_the_letter(
    consortium_of_two_models: Consortium, tmp_path: Path
) -> None:
    consortium = consortium_of_two_models
    hospital = Reader(consortium, tmp_path, "riverside")
    committee = consortium.member("committee")
    hospital.swap(*MIXED_UP)
    done = None
    for command in itertools.takewhile(lambda one: one.heading != OFFLINE, typed(TUTORIAL)):
        is_committees = command.heading.startswith("What the committee")
        done = hospital.types(command, committee if is_committees else None)
        if command.exit_code:
            (told,) = [line for line in done.stderr.splitlines() if "radius_worst" in line]
            assert told.strip() in TUTORIAL.read_text()
            hospital.swap(*MIXED_UP)
    assert done is not None
    # The last command is the committee's table.
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0][:6] + rows[0][-2:] == [
        *("SITE", "DATASET", "MODEL", "NAME", "RESULT", "NOTE", "patients", "auroc"),
    ]
    assert [row[:4] for row in rows[1:]] == [
        ["hospital", "1", "2", "model_logistic"],
        ["hospital", "1", "4", "my-model"],
    ]
    (dataset,) = asked(consortium, "riverside").pages("/me/datasets/")
    assert (dataset["state"], dataset["name"]) == ("OPERATION", "hospital")
    released = list(asked(consortium, "committee").pages("/benchmarks/1/results/"))
    assert {one["model"]: one["results"]["auroc"] for one in released} == {
        int(row[2]): float(row[-1]) for row in rows[1:]
    }


def test_the_tutorial_without_a_network(
    consortium_of_two_models: Consortium, tmp_path: Path
) -> None:
    consortium = consortium_of_two_models
    register_dataset_1(consortium)
    hospital = Reader(consortium, tmp_path, "northgate")
    committee, syncs, said = consortium.member("committee"), 0, ""
    commands = [one for one in typed(TUTORIAL) if one.heading == OFFLINE]
    for command in commands:
        if command.words == ("sync",):
            consortium.start() if syncs != 1 else approve(committee, "2")
            syncs += 1
        done = hospital.types(command)
        shown = done.stdout + done.stderr
        said += shown
        if command.words[:2] == ("dataset", "associate"):
            assert "dataset: q1\n" in shown and "$queued" not in shown
        if command.words[:2] == ("benchmark", "fetch"):
            consortium.stop()
        assert "\n\n" not in done.stderr
    assert "until dataset q1 in benchmark 1 is APPROVED" in said
    # By then it is approved, so that this waits for the network alone.
    assert "b1m4d2: queued as q6, http" in said and syncs == 3
    results = asked(consortium, "committee").pages("/benchmarks/1/results/")
    assert sorted((one["dataset"], one["model"]) for one in results) == [(2, 2), (2, 4)]
    assert hospital.member.json("queue", "ls") == []


def test_the_tutorial_of_a_container_that_works_in_stages(
    own_consortium: Consortium, tmp_path: Path
) -> None:
    committee = own_consortium.member("committee")
    register_dataset_1(own_consortium)
    # The tutorial's has the UID 5.
    for name, folder in (("another", "model_mlp"), ("staged", "data_preparator_staged")):
        options = own_consortium.container_options(folder)
        committee.does("container", "submit", "--name", name, *options, "--operational", "-y")
    hospital = Reader(own_consortium, tmp_path, "northgate")
    shutil.copytree(EXAMPLE / "data" / "hospitals" / "hillcrest", hospital.folder / "hillcrest")
    done = None
    for command in typed(TUTORIAL):
        if command.heading == STAGED:
            done = hospital.types(command)
            if command.words[:2] == ("dataset", "view"):
                here = hospital.member.json(*command.words)["here"]
                assert [(one["status"], one["cases"]) for one in here["stages"]] == [
                    ("2", 3),
                    ("3", 57),
                ]
                assert len(here["cases"]) == 3 and str(here["cases"][0]["case"]) in done.stdout
                correct(Path(here["folder"]))
    assert done is not None and "is in OPERATION" in done.stdout
    dataset = asked(own_consortium, "northgate").get("/datasets/2/")
    assert dataset["generated_metadata"]["patients"] == 60
    assert dataset["report"] == {"execution_status": "finished", "progress": {"Stage 3": "100.0%"}}


def correct(folder: Path) -> None:
    """Write what the tutorial says is right where the container asks for it."""
    text = TUTORIAL.read_text(encoding="utf-8")
    right = re.search(
        r"`([0-9.]+)` for this one, `([0-9.]+)` for `(P\d+)`, and `(\d)` for\n`(P\d+)`", text
    )
    (example,) = re.findall(r"such as `(P\d+).csv`", text)
    assert right is not None
    first, second, who, third, whose = right.groups()
    for patient, value in ((example, first), (who, second), (whose, third)):
        path = folder / "data" / "to_correct" / f"{patient}.csv"
        heading, row = path.read_text(encoding="utf-8").splitlines()
        assert patient != example or f"{heading}\n{row}\n" in text
        column, _, problem = row.split(",", 2)
        path.write_text(f"{heading}\n{column},{value},{problem}\n", encoding="utf-8")


def register_dataset_1(consortium: Consortium) -> None:
    """Another site's dataset, so that the tutorial's has the UID that it says."""
    body = {"name": "other", "input_data_hash": "0" * 64, "generated_uid": "0" * 64}
    body |= {"split_seed": 0, "data_preparation_mlcube": 1, "submitted_as_prepared": False}
    asked(consortium, "other").post("/datasets/", body, "d" * 36)


def approve(committee: Member, dataset: str) -> None:
    """Decide as the committee, which looks at what there is first."""
    committee.does("association", "ls", "-bd")
    committee.does("association", "approve", "--benchmark", "1", "--dataset", dataset, "--yes")
