"""One model's cases shared out to the nodes of a cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cases import CasesSite, dataset_of, make_benchmark
from tests.support.consortium import Consortium
from tests.support.hospital import Hospital
from tests.support.slurm import Slurm, eventually, slurm

__all__ = ["slurm"]

PARTS = ["abcd", "efgh", "ijkl"]


@pytest.fixture
def site(
    slurm: Slurm, own_consortium: Consortium, hospital: Hospital, tmp_path: Path
) -> Iterator[CasesSite]:
    """A hospital with twelve cases, whose jobs take four each, on a cluster somebody attends to."""
    make_benchmark(own_consortium)
    found = CasesSite(hospital, tmp_path / "shared", dataset_of(hospital, tmp_path / "data"), slurm)
    hospital.member.environment |= slurm.environment
    slurm.recover()
    found.setting(cases_per_job=4)
    with slurm.attended():
        yield found


def test_parts_run_on_several_nodes_and_give_what_one_job_gives(
    site: CasesSite, tmp_path: Path
) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.gate.touch()
    with site.running() as client:
        eventually(lambda: len(model.begun) > 1, "parts run beside each other")
        # Whoever is killed finds all of them, and what follows them.
        client.kill()
    rows = [one for one in member.json("jobs", "ls") if "part" in one["model"]]
    assert len({one["node"] for one in rows if one["state"] == "runs"}) > 1
    assert len({one["job"] for one in rows}) == len(rows) == 3
    model.gate.unlink()
    outcome = site.outcome(model)
    assert outcome["results"] == {"cases": 12, "sum": 156}
    assert sorted(model.begun) == PARTS
    shared = site.steps(outcome)
    whole = site.outcome(model, "--executor", "local", "--no-cache")
    assert shared[0].pop("parts") == 3 and shared == site.steps(whole)
    assert site.elements() == [] and site.slurm.says("squeue", "--noheader") == ""
