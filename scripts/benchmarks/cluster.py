"""Models on datasets in a queue that is made up, as are its clock and what jobs do.

All else is the client's own code, which prepares, sends, follows and collects. Run alone, with
numbers of models and datasets, it prints its figures as JSON.
"""

import heapq
import json
import math
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks.models import Pair, Site
from medperf_client.containers.job import Job
from medperf_client.errors import MedPerfError
from medperf_client.execution import work
from medperf_client.execution.plan import Plan
from medperf_client.executors import elements, executor, following
from medperf_client.executors.elements import Run
from medperf_client.executors.executor import Executor, Seen, State
from medperf_client.executors.following import Following
from medperf_client.settings.executors import ExecutorSettings

MODELS, DATASETS = 40, 25
WHOLE_MODELS, WHOLE_DATASETS = 200, 50
# So many jobs does each slot do; a job takes ten minutes, more or less.
JOBS_A_SLOT, SECONDS, SPREAD = 25, 600.0, 0.5
# Of jobs that begin, those that have to make room, and those whose node fails.
PREEMPTED, NODE_FAILED = 0.03, 0.01
# For so long a queue tells of a job that ended (Slurm's MinJobAge).
REMEMBERED_SECONDS = 300
# The client's work and all latencies, against the same jobs sent at once of which none is lost.
GOAL = 1.15
LOOKS_AT_DISK = 20


def measure(whole: bool = False) -> dict[str, Any]:
    """A process of its own, whose memory is that of nothing else."""
    sizes = (WHOLE_MODELS, WHOLE_DATASETS) if whole else (MODELS, DATASETS)
    words = [sys.executable, "-m", __name__, *map(str, sizes)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


class Clock:
    """Time as the client has it: as long as it works, and as it sleeps, which takes no time here.

    What is done `aside` is not the client's work. After each sleep `catch_up` is called.
    """

    def __init__(self) -> None:
        self.slept, self._aside, self._cpu_aside = 0.0, 0.0, 0.0
        self.catch_up: Callable[[], None] = lambda: None

    @property
    def worked(self) -> float:
        """Seconds that the client worked, and some."""
        return time.perf_counter() - self._aside

    @property
    def cpu(self) -> float:
        """Seconds of a processor's time that the client had."""
        return time.process_time() - self._cpu_aside

    def monotonic(self) -> float:
        """As in the module `time`."""
        return self.worked + self.slept

    def sleep(self, seconds: float) -> None:
        """As in the module `time`."""
        self.slept += seconds
        with self.aside():
            self.catch_up()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in the block takes no time."""
        began, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._aside += time.perf_counter() - began
            self._cpu_aside += time.process_time() - cpu


@dataclass(order=True)
class Queued:
    """A job, by the time at which it ends."""

    ends: float
    serial: int
    seen: Seen
    element: str
    run: Path
    fate: State = State.DONE


class Simulated(Executor):
    """A queue of so many slots, as one more module would be; what jobs do is done when they end."""

    def __init__(self, folder: Path, clock: Clock, slots: int) -> None:
        super().__init__(ExecutorSettings("simulated", folder))
        self.calls, self.fates = Counter[str](), Counter[str]()
        self._clock, self._slots, self._chance = clock, slots, random.Random(16)
        self._waiting, self._running = deque[Queued](), list[Queued]()
        self._known: dict[tuple[str, int], Queued] = {}
        clock.catch_up = self._catch_up

    def send(self, run: Run, folder: Path) -> str:
        """See `Executor`."""
        with self._called("send"):
            job = str(self.calls["send"])
            for number, (name, _) in enumerate(run.elements):
                seen = Seen(job, run.name, number, State.WAITS)
                one = Queued(0, len(self._known), seen, name, folder)
                self._known[run.name, number] = one
                self._waiting.append(one)
            self._begin(self._clock.monotonic())
            return job

    def jobs(self, runs: Sequence[str]) -> list[Seen]:
        """See `Executor`."""
        with self._called("jobs"):
            known, since = set(runs), self._clock.monotonic() - REMEMBERED_SECONDS
            told = (one for (run, _), one in self._known.items() if run in known)
            return [one.seen for one in told if one.seen.state.is_live or one.ends > since]

    def end(self, jobs: Sequence[Seen]) -> None:
        """See `Executor`."""
        if not jobs:
            return
        with self._called("end"):
            for one in (self._known[seen.run, seen.number] for seen in jobs):
                self._over(one, State.CANCELLED)

    @contextmanager
    def _called(self, name: str) -> Iterator[None]:
        with self._clock.aside():
            self.calls[name] += 1
            self._catch_up()
            yield

    def _catch_up(self) -> None:
        """What happened until now."""
        now = self._clock.monotonic()
        while self._running and self._running[0].ends <= now:
            one = heapq.heappop(self._running)
            if one.seen.state == State.RUNS:
                if one.fate == State.DONE:
                    elements.do_element(one.run, one.seen.number)
                self._over(one, one.fate)
            self._begin(one.ends)

    def _over(self, one: Queued, state: State) -> None:
        one.seen = replace(one.seen, state=state)
        self.fates[state.name] += 1

    def _begin(self, now: float) -> None:
        while self._waiting and len(self._running) < self._slots:
            one = self._waiting.popleft()
            if one.seen.state != State.WAITS:
                continue
            one.seen = replace(one.seen, state=State.RUNS, node=f"n{len(self._running)}")
            seconds = duration(one.element)
            lot = self._chance.random()
            if lot < PREEMPTED + NODE_FAILED:
                one.fate = State.PREEMPTED if lot < PREEMPTED else State.NODE_FAILED
                seconds *= self._chance.random()
            one.ends = now + seconds
            heapq.heappush(self._running, one)


def duration(name: str) -> float:
    """How long an element takes that nobody disturbs."""
    lot = random.Random(name).gauss(0, SPREAD)
    return SECONDS * math.exp(lot - SPREAD**2 / 2)


def ideal(names: Sequence[str], slots: int) -> float:
    """How long so many slots take for these, one after the other, if nothing is ever lost."""
    free = [0.0] * slots
    for name in names:
        heapq.heappush(free, heapq.heappop(free) + duration(name))
    return max(free)


def files_in(folder: Path) -> int:
    """How many files are below a folder."""
    return sum(len(files) for _, _, files in os.walk(folder))


def written(job: Job) -> None:
    """What a container would leave."""
    for mount in job.mounts:
        if mount.read_only:
            continue
        file = mount.path / "predictions.csv" if mount.path.is_dir() else mount.path
        file.write_text("score: 0.5\n")


def simulate(folder: Path, models: int, datasets: int) -> dict[str, Any]:
    """The figures of one run."""
    slots = max(2, models * datasets // JOBS_A_SLOT)
    with ExitStack() as stack:
        clock = Clock()
        stack.enter_context(patch.object(work, "execute", written))
        for module in (executor, following):
            stack.enter_context(patch.object(module, "time", clock))
        return _simulated(folder, models, datasets, slots, clock)


def _simulated(
    folder: Path, models: int, datasets: int, slots: int, clock: Clock
) -> dict[str, Any]:
    site, queue = Site(folder, models, datasets), Simulated(folder / "shared", clock, slots)
    spent, most_files, failed = Counter[str](), 0, 0

    @contextmanager
    def spending(what: str) -> Iterator[None]:
        before = clock.worked
        yield
        spent[what] += clock.worked - before

    began, plans = clock.monotonic(), dict[str, tuple[Pair, Plan]]()
    worked, cpu = clock.worked, clock.cpu
    with spending("prepare"):
        for pair in site.pairs:
            plan = site.plan(pair)
            queue.prepare(plan)
            plans[plan.name] = (pair, plan)
    names, done = list(plans), 0
    labels = {name: plan.label for name, (_, plan) in plans.items()}
    while labels:
        again = {}
        for name, trouble in Following(queue, lambda line: None).ended(labels, lambda *_: None):
            pair, plan = plans[name]
            with spending("collect"):
                try:
                    site.take_in(pair, queue.collect(plan, trouble))
                except MedPerfError:
                    # As somebody would who sees it fail.
                    again[name] = labels[name]
                    failed += 1
                queue.forget(name)
            done += 1
            if done % max(1, len(plans) // LOOKS_AT_DISK) == 0:
                with clock.aside():
                    most_files = max(most_files, files_in(queue.folder))
        for name in again:
            queue.prepare(plans[name][1])
        labels = again
    queue.sweep(())
    total, total_cpu = clock.worked - worked, clock.cpu - cpu
    if left := files_in(queue.folder / "elements") + files_in(queue.folder / "runs"):
        sys.exit(f"{left} files were left in the shared folder")
    makespan, best = clock.monotonic() - began, ideal(names, slots)
    return {
        f"cluster_{len(names)}": {
            "ratio": round(makespan / best, 3),
            "goal": GOAL,
            "slots": slots,
            "hours": round(makespan / 3600, 2),
            "ideal_hours": round(best / 3600, 2),
            **{name.lower(): count for name, count in sorted(queue.fates.items())},
            "failed_three_times": failed,
        },
        f"cluster_{len(names)}_client": {
            "seconds": round(total, 1),
            "cpu_seconds": round(total_cpu, 1),
            "prepare_seconds": round(spent["prepare"], 1),
            "collect_seconds": round(spent["collect"], 1),
            "percent_of_a_core": round(100 * total_cpu / makespan, 2),
            "MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        },
        f"cluster_{len(names)}_queue": {
            **queue.calls,
            "calls_a_minute": round(60 * queue.calls.total() / makespan, 2),
            "files_at_most": most_files,
        },
    }


def main(models: int, datasets: int) -> None:
    """Print the figures as JSON."""
    with TemporaryDirectory(prefix="medperf-bench-") as folder:
        print(json.dumps(simulate(Path(folder), models, datasets)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
