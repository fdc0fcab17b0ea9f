"""Runs in a queue that are killed at any moment, or lack room: each ends right, nothing twice.

MEDPERF_TEST_KILLS says how many, MEDPERF_TEST_SEED which. Of each five one is of each kind.
"""

import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from medperf_client.containers.library import Input
from medperf_client.executors.content import Content
from tests.support.cluster import Site, site
from tests.support.consortium import Consortium
from tests.support.disks import crowded, full, small_disk
from tests.support.hospital import with_another_model
from tests.support.slurm import NODES, eventually, slurm

__all__ = ["site", "slurm", "small_disk"]

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "5"))
SEED = int(os.environ.get("MEDPERF_TEST_SEED", "24"))
# Longer than a client waits for a record, and than any pause between two tries.
FULL_SECONDS = 60 if KILLS >= 50 else 15
NO_ROOM = "No space left on device"
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


# How often a model that was begun may begin anew: what is cut off was not done.
CUT_OFF = {"client": 0, "job": 1, "node": 1, "controller": 1, "room": 3}


@dataclass
class Trouble:
    """What may happen to a run at any moment, and what is to be so after it, whatever happened."""

    site: Site
    disk: Path
    witnesses: list[Witness]
    chance: random.Random

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
        """Run all models once, with one trouble; whether it came before the end."""
        kept = next(self.site.hospital.member.home.glob("registries/*/results"))
        shutil.rmtree(kept)
        began = [len(witness.began) for witness in self.witnesses]
        earlier = set(self.site.slurm.jobs("all"))
        with self.site.running("--no-cache") as running:
            is_over = ended_within(running, self.chance.uniform(0, self.longest))
            is_hit = not is_over and getattr(self, kind)(running)
            said, told = running.communicate(timeout=600)
        outcomes = json.loads(said) if is_over or kind != "client" else []
        for one in outcomes:
            is_told = kind == "room" and NO_ROOM in (one["error"] or "")
            assert is_told or one["results"] == self.first[one["model"]], f"{one['error']}\n{told}"
        found = {json.loads(path.read_text())["model"] for path in kept.glob("*.json")}
        is_again = self.results(outcomes) != self.first
        if is_again:
            assert self.results(self.site.run("--no-cache")) == self.first
        for witness, before in zip(self.witnesses, began, strict=True):
            # What has its result runs anew, for that was asked for.
            most = 1 + CUT_OFF[kind] + (is_again and witness.model in found)
            assert set(witness.began[before:]) == {"began"}, told
            assert len(witness.began[before:]) <= most, told
        for name in ("elements", "runs", "incoming"):
            assert list((self.site.shared / name).iterdir()) == [], name
        eventually(lambda: not set(self.site.slurm.jobs()) - earlier, "none of its jobs is left")
        return is_hit

    def client(self, running: "subprocess.Popen[str]") -> bool:
        """The command itself is killed."""
        running.kill()
        return True

    def job(self, running: "subprocess.Popen[str]") -> bool:
        """What does a step is killed, or what watches over that for Slurm; if there is any."""
        found = self.site.slurm.processes("slurmstepd", "--element")
        if found:
            with suppress(psutil.Error):
                self.chance.choice(found).kill()
        return bool(found)

    def node(self, running: "subprocess.Popen[str]") -> bool:
        """A node's daemon is killed, and started again."""
        return self._restarted("slurmd", "-D", "-N", self.chance.choice(NODES))

    def controller(self, running: "subprocess.Popen[str]") -> bool:
        """The controller is killed, and started again."""
        return self._restarted("slurmctld", "-D")

    def room(self, running: "subprocess.Popen[str]") -> bool:
        """For a while, the shared folder has no room for a byte more, or for a file more."""
        with self.chance.choice((full, crowded))(self.disk):
            time.sleep(FULL_SECONDS)
        return True

    def _restarted(self, *words: str) -> bool:
        self.site.slurm.kill(*words)
        time.sleep(self.chance.uniform(0, 4))
        self.site.slurm.start()
        return True


def test_whatever_is_killed_or_full_each_run_ends_right_and_does_nothing_twice(
    own_consortium: Consortium, site: Site, small_disk: Path, tmp_path: Path
) -> None:
    site.shared, node_disk = small_disk / "shared", tmp_path / "node"
    node_disk.mkdir()
    site.setting(setup=[f"export TMPDIR={node_disk}"])
    text = WITNESSED.format(shared=str(site.shared))
    witnesses = [model_of(own_consortium, tmp_path / f"model-{n}.py", text) for n in range(3)]
    site.hospital.member.does("sync")
    chance = random.Random(SEED)
    trouble = Trouble(site, small_disk, witnesses, chance)
    tried, hit, started = Counter[str](), Counter[str](), time.monotonic()
    kinds = list(CUT_OFF)
    for number in range(KILLS):
        if number % len(kinds) == 0:
            chance.shuffle(kinds)
        kind = kinds[number % len(kinds)]
        print(f"{number}: {kind}", flush=True)
        tried[kind] += 1
        hit[kind] += trouble.strikes(kind)
    print(f"tried {dict(tried)}, hit {dict(hit)}, in {time.monotonic() - started:.0f} s")
    assert sum(hit.values()) > 0
    # A controller that was killed has jobs back that ended after it had last noted what is so. It
    # finds that out, sends them again, and they find nothing to do. One whose number a node knows
    # it holds, until somebody sends the next run.
    eventually(lambda: site.slurm.jobs() == site.slurm.held(), "no other is left", seconds=180)
    # Who comes next to a node takes away what those left that were killed there.
    assert trouble.results(site.run("--no-cache")) == trouble.first
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


def ended_within(running: "subprocess.Popen[str]", seconds: float) -> bool:
    """Whether a command ends within so many seconds, which are waited for."""
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
