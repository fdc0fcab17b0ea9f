"""One model's cases shared out to the nodes of a cluster."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cases import CasesSite, dataset_of, make_benchmark
from tests.support.consortium import Consortium
from tests.support.disks import small_disk
from tests.support.hospital import Hospital
from tests.support.slurm import Slurm, eventually, slurm
from tests.support.trouble import CUT_OFF, KILLS, NO_ROOM, Trouble

__all__ = ["slurm", "small_disk"]

PARTS = ["abcd", "efgh", "ijkl"]
RESULTS = {"cases": 12, "sum": 156}


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
    assert outcome["results"] == RESULTS
    assert sorted(model.begun) == PARTS
    shared = site.steps(outcome)
    whole = site.outcome(model, "--executor", "local", "--no-cache")
    assert shared[0].pop("parts") == 3 and shared == site.steps(whole)
    assert site.elements() == [] and site.slurm.says("squeue", "--noheader") == ""


@dataclass
class Models(Trouble):
    """Models of which each runs once, in parts."""

    site: CasesSite
    folder: Path

    def __post_init__(self) -> None:
        model = self.site.model("first", self.folder)
        started = time.monotonic()
        assert self.site.outcome(model)["results"] == RESULTS
        self.longest = time.monotonic() - started

    def strikes(self, kind: str) -> bool:
        """See `Trouble`."""
        model = self.site.model(f"model-{len(list(self.folder.iterdir()))}", self.folder)
        with self.during(kind) as (is_hit, outcomes, told):
            for one in outcomes:
                is_told = kind == "room" and NO_ROOM in (one["error"] or "")
                assert is_told or one["error"] is None, (one["error"], told)
            assert self.site.outcome(model)["results"] == RESULTS
        times = Counter(model.begun)
        assert sorted(times) == PARTS and max(times.values()) <= 1 + CUT_OFF[kind], (times, told)
        return is_hit


def test_whatever_is_killed_or_full_no_part_is_lost_or_done_twice(
    site: CasesSite, small_disk: Path, tmp_path: Path
) -> None:
    site.shared = small_disk / "shared"
    site.setting(cases_per_job=4)
    Models(site, small_disk, tmp_path).come(KILLS // 2)
