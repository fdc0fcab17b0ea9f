"""Waiting for the elements of a queue: what ended, what is tried again, what failed by rule."""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path

from medperf_client.containers.job import called
from medperf_client.containers.supervise import TAIL_LINES, last_lines
from medperf_client.errors import MedPerfError
from medperf_client.execution.steps import Moment, Watch
from medperf_client.executors.executor import Away, Executor, Refused, Seen, State

# Seconds between two looks at the folder.
FILES_SECONDS = 0.5
FILES_AT_ONCE = 100
# A record may be seen only some time after its job ended: a shared file system has caches.
RECORD_SECONDS = 10
# Sent so often for what is nobody's fault, and so often while no node has begun it: a controller
# that has lost its last numbers gives them out again, and the nodes that know them refuse each.
MOST_TRIES, MOST_UNBEGUN = 3, 10
AGAIN = (
    *(State.DONE, State.FAILED, State.PREEMPTED, State.NODE_FAILED, State.GONE),
    State.HELD,
)
HINTS = {
    State.TOO_LONG: "Give it more with executor.time in the profile.",
    State.NO_MEMORY: "Give it more with executor.memory in the profile.",
    State.CANCELLED: "Run it again to send it again.",
}


def looking() -> Iterator[int]:
    """The seconds between looks at a queue: often at first, then four a minute."""
    return chain((1, 1, 2, 4, 8), repeat(15))


class Following:
    """Follows elements until each is over, and sends what no job is at; `tell` is for people.

    It knows nothing that folder and queue do not say: another one, later, goes on where it was.
    """

    def __init__(self, executor: Executor, tell: Callable[[str], None]) -> None:
        self.executor, self._tell = executor, tell
        self._labels: dict[str, str] = {}
        self._watch: Watch = lambda step, moment: None
        self._left: dict[str, None] = {}
        # When the queue is to be asked again, on the clock that never goes back.
        self._due = 0.0
        self._shown: dict[str, tuple[str, str, State]] = {}
        self._since: dict[str, float] = {}
        # Whose records may be there, and were not seen yet.
        self._in_doubt: set[str] = set()
        self._is_away = False

    def ended(
        self, labels: Mapping[str, str], watch: Watch, wait: bool = True
    ) -> Iterator[tuple[str, MedPerfError | None]]:
        """The name of each element that is over, and why its job will leave no record, if so.

        `labels` are what people call each, `watch` is told what the jobs do. Raises `MedPerfError`
        if the queue refuses all that is left. Whoever stops waiting stops nothing else; who does
        not `wait` for what is not over sees that all is sent, and raises `Away` if the queue is
        away. Between two of them more may be added.
        """
        self._labels, self._watch, self._left = dict(labels), watch, dict.fromkeys(labels)
        pauses, self._due = looking(), 0.0
        try:
            while self._left:
                for name in [one for one in self._left if self.executor.is_over(one)]:
                    yield from self._over(name, None)
                if self._left and time.monotonic() >= self._due:
                    for name, error in self._looked(wait):
                        yield from self._over(name, error)
                    self._due = time.monotonic() + next(pauses)
                    if not wait and not self._in_doubt & self._left.keys():
                        break
                if self._left:
                    time.sleep(FILES_SECONDS * (1 + len(self._left) // FILES_AT_ONCE))
        except KeyboardInterrupt:
            self._tell(
                f"{len(self._left)} jobs go on without this: the same command collects them, "
                "medperf jobs ls shows them, and medperf jobs cancel ends them."
            )
            raise

    def add(self, name: str, label: str) -> None:
        """Follow one more element, which is sent without delay."""
        self._labels[name], self._left[name], self._due = label, None, 0.0

    def _over(
        self, name: str, error: MedPerfError | None
    ) -> Iterator[tuple[str, MedPerfError | None]]:
        del self._left[name]
        if name in self._shown:
            self._watch(self._step(name), "failed" if error else "ran")
        yield name, error

    def _looked(self, wait: bool) -> list[tuple[str, MedPerfError]]:
        """Look at the queue, send what is to be sent; what failed for good, and why."""
        failed, send = [], []
        self._in_doubt.clear()
        try:
            seen = self.executor.look()
            for name in self._left:
                found = seen.get(name)
                self._show(name, found)
                if not self.executor.has(name):
                    failed.append((name, MedPerfError("it was cancelled", HINTS[State.CANCELLED])))
                elif found is None or self._is_to_be_sent(name, found):
                    send.append(name)
                elif not found.state.is_live and not self._may_have_record(name, found):
                    failed.append((name, self._failure(name, found)))
            if send:
                self.executor.submit(send)
            self._is_away = False
        except Refused as error:
            if len(error.elements) == len(self._left):
                raise
            failed += error.elements.items()
        except Away as error:
            if not wait:
                raise
            if not self._is_away:
                self._tell(f"{error.told}: {error}")
            self._is_away = True
        return failed

    def _is_to_be_sent(self, name: str, seen: Seen) -> bool:
        if seen.state not in AGAIN or self._may_have_record(name, seen):
            return False
        most = MOST_UNBEGUN if seen.state == State.HELD else MOST_TRIES
        if self.executor.tries(name) >= most:
            return False
        self._tell(f"{self._labels[name]}: job {seen.job} {seen.state.value}, and is sent again")
        return True

    def _may_have_record(self, name: str, seen: Seen) -> bool:
        """Whether a record may be there that was not seen yet."""
        if self.executor.is_over(name):
            return True
        if seen.state not in (State.DONE, State.FAILED):
            return False
        first = self._since.setdefault(seen.job + seen.run, time.monotonic())
        if time.monotonic() - first >= RECORD_SECONDS:
            return False
        self._in_doubt.add(name)
        return True

    def _failure(self, name: str, seen: Seen) -> MedPerfError:
        where = f" on {seen.node}" if seen.node else ""
        tries = self.executor.tries(name)
        often = f", the last of {tries} tries" if seen.state in AGAIN and tries > 1 else ""
        said = f"job {seen.job}{where} {seen.state.value}{often}"
        lines = _tail(self.executor.logs(name, seen))
        more = ["Its output ends with:", *(f"  {line}" for line in lines)] if lines else []
        return MedPerfError("\n".join([said, *more]), HINTS.get(seen.state, ""))

    def _show(self, name: str, seen: Seen | None) -> None:
        if seen is None or not seen.state.is_live:
            return
        known = (seen.job, seen.node, seen.state)
        if self._shown.get(name) != known:
            self._shown[name] = known
            moment: Moment = "start" if seen.state == State.RUNS else "queued"
            self._watch(self._step(name), moment)

    def _step(self, name: str) -> str:
        job, node, _ = self._shown[name]
        return called(f"job {job} on {node}" if node else f"job {job}", self._labels[name])


def _tail(logs: list[Path]) -> list[str]:
    """The last lines of them, what was written last at the end, safe to print."""
    written = sorted(logs, key=lambda log: log.stat().st_mtime)
    return [line for log in written for line in last_lines(log)][-TAIL_LINES:]
