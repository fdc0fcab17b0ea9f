"""What may happen to a run in a queue, at a random moment.

MEDPERF_TEST_KILLS says how many times, MEDPERF_TEST_SEED at which. Of five one is of each kind.
"""

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.cluster import Site
from tests.support.disks import crowded, full
from tests.support.slurm import NODES, eventually

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "5"))
SEED = int(os.environ.get("MEDPERF_TEST_SEED", "24"))
# Longer than a client waits for a record, and than any pause between two tries.
FULL_SECONDS = 60 if KILLS >= 50 else 15
NO_ROOM = "No space left on device"
# How often a step that was begun may begin anew: what is cut off was not done.
CUT_OFF = {"client": 0, "job": 1, "node": 1, "controller": 1, "room": 3}


@dataclass
class Trouble:
    """What may happen to a run at any moment; `longest` is how many seconds it takes without."""

    site: Site
    disk: Path
    longest: float = field(default=0, init=False)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED), init=False)

    def come(self, times: int) -> None:
        """Let it come so many times, each to one run."""
        tried, hit, started = Counter[str](), Counter[str](), time.monotonic()
        kinds = list(CUT_OFF)
        for number in range(times):
            if number % len(kinds) == 0:
                self.chance.shuffle(kinds)
            kind = kinds[number % len(kinds)]
            print(f"{number}: {kind}", flush=True)
            tried[kind] += 1
            hit[kind] += self.strikes(kind)
        print(f"tried {dict(tried)}, hit {dict(hit)}, in {time.monotonic() - started:.0f} s")
        assert sum(hit.values()) > 0

    def strikes(self, kind: str) -> bool:
        """Run once, with one trouble, and see what is right after it; whether it came in time."""
        raise NotImplementedError

    @contextmanager
    def during(self, kind: str, *more: str) -> Iterator[tuple[bool, list[dict[str, Any]], str]]:
        """Run all models, with one trouble.

        Yields whether it came in time, what became of each model (nothing is told where the
        command was killed), and what was said. After the block, nothing of it may be left.
        """
        earlier = set(self.site.slurm.jobs("all"))
        with self.site.running(*more) as running:
            is_over = _ended_within(running, self.chance.uniform(0, self.longest))
            is_hit = not is_over and getattr(self, kind)(running)
            said, told = running.communicate(timeout=600)
        yield is_hit, json.loads(said) if is_over or kind != "client" else [], told
        for name in ("elements", "runs", "incoming"):
            assert list((self.site.shared / name).iterdir()) == [], name
        eventually(lambda: not set(self.site.slurm.jobs()) - earlier, "none of its jobs is left")

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


def _ended_within(running: "subprocess.Popen[str]", seconds: float) -> bool:
    """Whether a command ends within so many seconds, which are waited for."""
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
