"""Several steps at a time on this machine, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import Any

from medperf_client.errors import MedPerfError
from medperf_client.execution.used import Used
from medperf_client.execution.work import Work
from medperf_client.executors import records, worker
from medperf_client.executors.gpus import Gpus
from medperf_client.executors.memory import Memory

TAIL_CHARACTERS = 2000
# Who fetches an image cannot be interrupted, and is not waited for.
PATIENCE_SECONDS = 30


class Local:
    """Does steps in processes of this machine, `slots` of them at a time.

    Each thread that works holds a `slot`, and calls `perform`. What they do ends with the block in
    which this is used, and with this process, should that be killed. No two steps have the same
    GPU at a time, nor are their bounds of memory more than there is. Processes are forked from
    others that wait with all imported, one a slot.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._gpus, self._memory = Gpus(), Memory()
        self._changed, self._is_over, self._busy = Condition(), False, 0
        self._running: set[_Worker] = set()
        self._idle: list[_Worker] = []

    def __enter__(self) -> "Local":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_over = True
            for one in self._running:
                one.hang_up()
            for one in self._idle:
                one.end()
            self._changed.wait_for(lambda: not self._busy, PATIENCE_SECONDS)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """For a block, be waited for. Raises `MedPerfError` once nothing may be begun any more."""
        with self._changed:
            self._check_goes_on()
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def perform(
        self, work: Work, note: Callable[[Used], None] = lambda used: None
    ) -> dict[str, Any]:
        """See `execution.work.perform`; `note` is told what it took, also where it fails."""
        folder = work.job.scratch
        assert folder is not None
        memory = self._memory.taken(work.job.limits.memory_bytes)
        with self._gpus.taken(work.job.gpus) as gpus, memory:
            records.describe(replace(work, job=replace(work.job, gpus=gpus)), folder)
            with self._asked(folder) as one:
                code, words = one.answer()
        used = records.used(folder)
        if used is not None:
            note(used)
        record = records.recorded(folder)
        if record is None:
            raise MedPerfError(
                f"the process for task {work.job.called} ended with exit code {code}", words
            )
        return record

    @contextmanager
    def _asked(self, folder: Path) -> "Iterator[_Worker]":
        """A process that was asked for a step: one that is idle, or else a new one."""
        with self._changed:
            self._check_goes_on()
            alive = [one for one in self._idle if one.is_alive]
            one = alive.pop() if alive else _Worker()
            self._idle = alive
            self._running.add(one)
            one.ask(folder)
        try:
            yield one
        finally:
            with self._changed:
                self._running.discard(one)
                is_kept = one.is_free and not self._is_over
                if is_kept:
                    self._idle.append(one)
            if not is_kept:
                one.end()

    def _check_goes_on(self) -> None:
        if self._is_over:
            raise MedPerfError("it was stopped before it began")


class _Worker:
    """A process that has steps done by its children, one after the other."""

    def __init__(self) -> None:
        # Nobody else finds what its steps print; it goes with the process.
        self._said = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", worker.__name__, "--each"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            # Ctrl-C is for this process to pass on.
            start_new_session=True,
        )
        self.is_free, self._before = True, 0

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, folder: Path) -> None:
        """Have it do a step; `answer` tells if it was killed meanwhile, and does nothing more."""
        assert self._process.stdin is not None
        self.is_free, self._before = False, self._said.seek(0, 2)
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(str(folder)).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self) -> tuple[int, str]:
        """The exit code of the step that it was asked for, or its own, and the last it said."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.is_free = line != b""
        code = int(line) if line else self._process.wait()
        self._said.seek(self._before)
        return code, self._said.read()[-TAIL_CHARACTERS:].decode(errors="replace").strip()

    def hang_up(self) -> None:
        """Have it end, which cleans up after itself first."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self) -> None:
        """Have it end, and wait until it did."""
        self.hang_up()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()
