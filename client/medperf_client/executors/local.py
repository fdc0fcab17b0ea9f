"""Several steps at a time on this machine, each in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Condition
from types import TracebackType
from typing import Any

from medperf_client.errors import MedPerfError
from medperf_client.execution.used import Used
from medperf_client.execution.work import Work
from medperf_client.executors import records, worker
from medperf_client.executors.gpus import Gpus

TAIL_CHARACTERS = 2000
# Who fetches an image cannot be interrupted, and is not waited for.
PATIENCE_SECONDS = 30


class Local:
    """Does steps in processes of this machine, `slots` of them at a time.

    Each thread that works holds a `slot`, and calls `perform`. What they do ends with the block in
    which this is used, and with this process, should that be killed. No two steps have the same
    GPU at a time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._gpus = Gpus()
        self._changed, self._is_over, self._busy = Condition(), False, 0
        self._running: set[subprocess.Popen[bytes]] = set()

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
            for process in self._running:
                _hang_up(process)
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
        with self._gpus.taken(work.job.gpus) as gpus:
            records.describe(replace(work, job=replace(work.job, gpus=gpus)), folder)
            with open(folder / "stderr", "w+b") as said, self._process(work, said) as process:
                code = process.wait()
                said.seek(0)
                words = said.read()[-TAIL_CHARACTERS:].decode(errors="replace")
        used = records.used(folder)
        if used is not None:
            note(used)
        record = records.recorded(folder)
        if record is None:
            raise MedPerfError(
                f"the process for task {work.job.called} ended with exit code {code}", words.strip()
            )
        return record

    @contextmanager
    def _process(self, work: Work, said: Any) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", worker.__name__, "--with-parent", str(work.job.scratch)]
        with self._changed:
            self._check_goes_on()
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # Ctrl-C is for this process to pass on.
                start_new_session=True,
            )
            self._running.add(process)
        try:
            yield process
        finally:
            with self._changed:
                self._running.discard(process)
            _hang_up(process)
            process.wait()

    def _check_goes_on(self) -> None:
        if self._is_over:
            raise MedPerfError("it was stopped before it began")


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    """Have a process end, which cleans up after itself first."""
    assert process.stdin is not None
    process.stdin.close()
