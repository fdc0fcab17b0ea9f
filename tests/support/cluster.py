"""A hospital whose models run in a real Slurm, and models that wait for a test."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.consortium import Consortium
from tests.support.hospital import Hospital, approved, with_another_model
from tests.support.pool import POOL
from tests.support.slurm import Slurm, eventually

# Goes on once a file is there, and says on which node it began.
GATED = (
    "-c \"import os,time,runpy; print('began', flush=True); open({began!r}, 'a').write('x');"
    " [time.sleep(.05) for _ in iter(lambda:os.path.exists({gate!r}), True)];"
    " runpy.run_path('main.py', run_name='__main__')\""
)


class Gate:
    """Where a model waits."""

    model = 0

    def __init__(self, path: Path) -> None:
        self.path, self.began = path, path.with_suffix(".began")

    @property
    def times(self) -> int:
        """How many times the model began."""
        return len(self.began.read_text()) if self.began.exists() else 0

    def is_reached(self, times: int = 1) -> None:
        """Wait until the model began so many times."""
        eventually(lambda: self.times >= times, f"the model began {times} times")

    def open(self) -> None:
        """Let it go on."""
        self.path.touch()


@dataclass
class Site:
    """A hospital whose models run in a queue, and the folder that it shares with the nodes."""

    hospital: Hospital
    shared: Path
    uid: str
    slurm: Slurm

    @property
    def words(self) -> tuple[str, ...]:
        """The command that runs all models."""
        return ("benchmark", "run", "-b", "1", "-d", self.uid, "--json")

    def run(self, *more: str) -> list[dict[str, Any]]:
        """Run all models; what became of each."""
        done = self.hospital.member.run(*self.words, *more)
        assert done.stdout, done.stderr
        outcomes: list[dict[str, Any]] = json.loads(done.stdout)
        return outcomes

    def setting(self, **more: Any) -> None:
        """Change what jobs ask for."""
        values = {"kind": "slurm", "shared_folder": str(self.shared), **more}
        self.hospital.member.does("profile", "set", "executor", json.dumps(values))

    def gated(self, consortium: Consortium, name: str = "gated") -> "Gate":
        """Have one more model, which waits for its gate to be opened; the reference is done."""
        gate = Gate(self.shared.with_name(name))
        text = GATED.format(began=str(gate.began), gate=str(gate.path))
        gate.model = with_another_model(consortium, name, text)
        self.hospital.member.does("sync")
        return gate

    @contextmanager
    def running(self, *more: str) -> Iterator["subprocess.Popen[str]"]:
        """Run all models, while the test does something else."""
        with self.hospital.member.start(*self.words, *more) as client:
            try:
                yield client
            except BaseException:
                # It waits for what the test would have done.
                client.kill()
                raise

    def elements(self) -> list[Path]:
        """The folders of elements."""
        return sorted((self.shared / "elements").glob("*"))

    def steps(self, outcome: dict[str, Any]) -> list[dict[str, Any]]:
        """The steps of a result, without what no two runs have in common."""
        steps = self.hospital.member.json("result", "view", outcome["result"])["steps"]
        return [
            {key: value for key, value in step.items() if key not in ("seconds", "source")}
            for step in steps
        ]


class Pooled(Site):
    """A hospital whose models run in a queue that is but processes of this machine."""

    slurm: Any = None

    def setting(self, **more: Any) -> None:
        """See `Site`."""
        super().setting(**{"kind": POOL, **more})


@pytest.fixture
def site(
    slurm: Slurm, own_consortium: Consortium, hospital: Hospital, tmp_path: Path
) -> Iterator[Site]:
    """A hospital at work on a cluster that somebody attends to; its benchmark has one model."""
    slurm.recover()
    found = Site(hospital, tmp_path / "shared", approved(hospital), slurm)
    hospital.member.environment |= slurm.environment
    found.setting()
    with slurm.attended():
        yield found
    # Of a test that fails, this is shown.
    print(slurm.says("sinfo", "--Node", "--long"), slurm.says("squeue", "--array", "--long"))
