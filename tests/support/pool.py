"""A queue that nobody foresaw, and `medperf` with a line in its list for it.

Run as a program, with the words of a command.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

# Nothing beside this file is a module of the product's, or hides one of others.
if __name__ == "__main__":
    sys.path.pop(0)

from medperf_client.executors.elements import Run
from medperf_client.executors.executor import Executor, Seen, State
from medperf_client.files import write_atomically
from medperf_client.settings.executors import KINDS

POOL, HOLDS = "pool", "held"
RUN, NUMBER, SCRIPT = "POOL_RUN", "POOL_NUMBER", "script"
# Up to which try it holds each job, and begins none.
HELD = int(os.environ.get("POOL_HELD", "0"))


class Pool(Executor):
    """Has each job be a process of this machine, and knows none but those that run.

    They are marked by their environment. Those that it holds are none.
    """

    own_options = frozenset({"nice"})

    def send(self, run: Run, folder: Path) -> str:
        """See `Executor`."""
        write_atomically(folder / SCRIPT, self.script(folder, f"${NUMBER}"))
        for number in _begun(run):
            with open(folder / f"{number}.log", "ab") as log:
                subprocess.Popen(
                    ["bash", str(folder / SCRIPT)],
                    env={"PATH": os.environ["PATH"], RUN: run.name, NUMBER: str(number)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    umask=0o077,
                )
        return f"pool-{run.name[:8]}"

    def jobs(self, runs: Sequence[str]) -> list[Seen]:
        """See `Executor`."""
        held = [
            Seen(HOLDS, run.name, number, State.HELD)
            for run in (Run.read(self.folder / "runs" / name) for name in runs)
            for number in (set(range(len(run.elements))) - set(_begun(run)) if run else ())
        ]
        return held + [
            Seen(str(process.pid), marks[RUN], int(marks[NUMBER]), State.RUNS, "here")
            for process, marks in running(self.folder)
            if marks[RUN] in runs
        ]

    def end(self, jobs: Sequence[Seen]) -> None:
        """See `Executor`."""
        for job in jobs:
            if job.state == State.HELD:
                continue
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(job.job)).terminate()


def _begun(run: Run) -> list[int]:
    """The numbers of a run's jobs that it does not hold."""
    return [number for number, tries in enumerate(run.tries) if tries > HELD]


def running(shared: Path) -> Iterator[tuple[psutil.Process, Mapping[str, str]]]:
    """What this queue started for that folder and has not ended, with its environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            marks, words = process.environ(), process.cmdline()
            # What a job starts has its environment, too.
            is_job = "--element" in words or any(word.endswith(f"/{SCRIPT}") for word in words)
            if RUN in marks and is_job and any(word.startswith(f"{shared}/") for word in words):
                yield process, marks


def command(*words: str) -> list[str]:
    """How a test starts it."""
    return [sys.executable, __file__, *words]


def main() -> None:
    """Run `medperf`, which knows this queue."""
    KINDS[POOL] = f"{__name__}:{Pool.__name__}"
    from medperf_client.__main__ import main as medperf

    medperf()


if __name__ == "__main__":
    main()
