"""Runs in a queue that are killed at any moment, or lack room: each ends right, nothing twice."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medperf_client.containers.library import Input
from medperf_client.executors.content import Content
from tests.support.cluster import Site, site
from tests.support.consortium import Consortium
from tests.support.disks import full, small_disk
from tests.support.hospital import with_another_model
from tests.support.slurm import eventually, slurm
from tests.support.trouble import CUT_OFF, KILLS, NO_ROOM, Trouble

__all__ = ["site", "slurm", "small_disk"]

# A model that notes each time that it begins, and whether there was a record of it already.
WITNESSED = """
import glob, os, runpy, sys

def is_done():
    for work in glob.glob({shared!r} + "/elements/*/*/work.json"):
        try:
            is_own = __file__ in open(work).read()
        except OSError:
            continue
        if is_own and os.path.exists(os.path.join(os.path.dirname(work), "record.json")):
            return True
    return False

with open(__file__ + ".began", "a") as began:
    began.write("again " if is_done() else "began ")
sys.path[0] = os.getcwd()
runpy.run_path("main.py", run_name="__main__")
"""

# A model that fills the disk the first time that it begins, before or after what it has to do.
FILLING = """
import contextlib, os, runpy, sys

def fill(when):
    if when == {when!r} and is_first:
        with open({ballast!r}, "wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass

is_first = not os.path.exists(__file__ + ".began")
with open(__file__ + ".began", "a") as began:
    began.write("began ")
sys.path[0] = os.getcwd()
with contextlib.suppress(OSError):
    fill("before")
runpy.run_path("main.py", run_name="__main__")
with contextlib.suppress(OSError):
    fill("after")
"""


@dataclass
class Witness:
    """A model, and the file in which it notes that it begins."""

    model: int
    file: Path

    @property
    def began(self) -> list[str]:
        """A word for each time."""
        return self.file.read_text().split() if self.file.exists() else []


@dataclass
class Runs(Trouble):
    """All models of a benchmark, run again and again; each notes that it begins."""

    witnesses: list[Witness]

    def __post_init__(self) -> None:
        started = time.monotonic()
        self.first = self.results(self.site.run("--no-cache"))
        self.longest = time.monotonic() - started
        assert len(self.first) == 1 + len(self.witnesses) and all(self.first.values())

    @staticmethod
    def results(outcomes: list[dict[str, Any]]) -> dict[int, Any]:
        """What each model gave."""
        return {one["model"]: one["results"] for one in outcomes}

    def strikes(self, kind: str) -> bool:
        """See `Trouble`."""
        kept = next(self.site.hospital.member.home.glob("registries/*/results"))
        shutil.rmtree(kept)
        began = [len(witness.began) for witness in self.witnesses]
        with self.during(kind, "--no-cache") as (is_hit, outcomes, told):
            for one in outcomes:
                is_told = kind == "room" and NO_ROOM in (one["error"] or "")
                assert is_told or one["results"] == self.first[one["model"]], (one["error"], told)
            found = {json.loads(path.read_text())["model"] for path in kept.glob("*.json")}
            is_again = self.results(outcomes) != self.first
            if is_again:
                assert self.results(self.site.run("--no-cache")) == self.first
        for witness, before in zip(self.witnesses, began, strict=True):
            # What has its result runs anew, for that was asked for.
            most = 1 + CUT_OFF[kind] + (is_again and witness.model in found)
            assert set(witness.began[before:]) == {"began"}, told
            assert len(witness.began[before:]) <= most, told
        return is_hit


def test_whatever_is_killed_or_full_each_run_ends_right_and_does_nothing_twice(
    own_consortium: Consortium, site: Site, small_disk: Path, tmp_path: Path
) -> None:
    site.shared, node_disk = small_disk / "shared", tmp_path / "node"
    node_disk.mkdir()
    site.setting(setup=[f"export TMPDIR={node_disk}"])
    text = WITNESSED.format(shared=str(site.shared))
    witnesses = [model_of(own_consortium, tmp_path / f"model-{n}.py", text) for n in range(3)]
    site.hospital.member.does("sync")
    runs = Runs(site, small_disk, witnesses)
    runs.come(KILLS)
    # A controller that was killed has jobs back that ended after it had last noted what is so. It
    # finds that out, sends them again, and they find nothing to do. One whose number a node knows
    # it holds, until somebody sends the next run.
    eventually(lambda: site.slurm.jobs() == site.slurm.held(), "no other is left", seconds=180)
    # Who comes next to a node takes away what those left that were killed there.
    assert runs.results(site.run("--no-cache")) == runs.first
    assert list(node_disk.glob("*/*")) == []
    eventually(lambda: not site.slurm.jobs(), "the queue is empty", seconds=180)


@pytest.mark.parametrize(("when", "times"), [("before", 2), ("after", 1)])
def test_a_disk_that_is_full_for_a_while_costs_no_model_what_it_did(
    own_consortium: Consortium,
    site: Site,
    small_disk: Path,
    tmp_path: Path,
    when: str,
    times: int,
) -> None:
    site.shared, ballast = small_disk / "shared", small_disk / "ballast"
    site.setting()
    text = FILLING.format(when=when, ballast=str(ballast))
    filling = model_of(own_consortium, tmp_path / "filling.py", text)
    site.hospital.member.does("sync")
    with site.running() as running:
        eventually(ballast.exists, "the disk is full")
        time.sleep(6)
        ballast.unlink()
        said, told = running.communicate(timeout=200)
    assert {one["error"] for one in json.loads(said)} == {None}, told
    assert len(filling.began) == times and "sent again" not in told
    assert site.elements() == [] and list((site.shared / "runs").iterdir()) == []


@pytest.mark.parametrize("is_folder", [True, False])
def test_content_that_has_no_room_is_named_and_leaves_nothing(
    small_disk: Path, tmp_path: Path, is_folder: bool
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("first", "second"):
        (scans / name).write_bytes(bytes(3 << 20))
    with full(small_disk):
        given = scans if is_folder else scans / "first"
        content = Content(small_disk / "content", small_disk / "incoming")
        with pytest.raises(OSError, match=f"cannot copy {given} to .*: .*{NO_ROOM}"):
            content.at_hand(Input(given, "ab" * 32))
        assert list((small_disk / "incoming").iterdir()) == []


def model_of(consortium: Consortium, script: Path, text: str) -> Witness:
    """Have one more model in the benchmark, which runs a script, and notes that it begins."""
    script.write_text(text)
    model = with_another_model(consortium, script.stem, str(script))
    return Witness(model, script.with_name(f"{script.name}.began"))
