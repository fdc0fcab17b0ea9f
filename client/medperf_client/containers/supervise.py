"""What platforms share: a program that is watched to its end, and what to say when it fails."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from medperf_client.containers import launch
from medperf_client.containers.job import Job
from medperf_client.containers.logs import piped
from medperf_client.deadlines import deadline
from medperf_client.errors import ContainerFailed

TAIL_LINES, TAIL_BYTES = 15, 8192

_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)")


def failure(job: Job, what: str, hint: str = "") -> ContainerFailed:
    """The error for a task that `what`: names its log, and shows the log's last lines."""
    lines = last_lines(job.log)
    ended = f"Its output, in {job.log}, ends with:" if lines else f"Its log {job.log} is empty."
    return ContainerFailed("\n  ".join([f"task {job.called} {what}. {ended}", *lines]), hint)


def too_slow(job: Job) -> ContainerFailed:
    """The error for a task that was stopped at its time limit."""
    return failure(
        job,
        f"ran longer than its limit of {job.limits.seconds:g} s and was stopped",
        hint="If it needs longer, raise the profile's task_timeout (in seconds).",
    )


def last_lines(log: Path) -> list[str]:
    """The last lines of a log, safe to print: whatever a container wrote, a terminal obeys none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = _ESCAPE_SEQUENCE.sub("", text).splitlines()[-TAIL_LINES:]
    return [
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line.expandtabs())
        for line in lines
    ]


def supervised(job: Job, task: Mapping[str, Any], folder: Path) -> tuple[int, bool]:
    """Run what `launch` is told by `task` in a folder, to its end, its output in the job's log.

    Exit code, and whether the time limit ended it. What it leaves running ends with it, and with
    this process, should that be killed.
    """
    told = folder.with_name("task.json")
    told.write_text(json.dumps(task))
    with _report() as (report, reported), piped(job.log) as log, _watcher() as watch:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, str(told), str(report)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[report],
            # A group of its own, so that all of it can be stopped at once.
            start_new_session=True,
        )
        # One that runs its command alone ends all of it, and then itself.
        stop = process.terminate if "pids" in task else partial(_kill_group, process.pid)
        try:
            watch(process.pid)
            with deadline(job.limits.seconds, stop) as expired:
                # Not reaped yet, so that the number cannot become another group's.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            # Also what the command left running.
            stop()
            process.wait()
        said = reported()
    if said:
        raise ContainerFailed(f"task {job.called} cannot be run: {said}")
    return process.returncode, expired.is_set()


@contextmanager
def _report() -> Iterator[tuple[int, Callable[[], str]]]:
    """A descriptor for `launch`, and what it said there of a command that could not be started."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as end, open(writing, "wb") as other:

        def reported() -> str:
            other.close()
            return os.fsdecode(end.read() or b"")

        yield writing, reported


@contextmanager
def _watcher() -> Iterator[Callable[[int], None]]:
    """Has a group of processes end with this one, should it be killed; takes the group's number.

    Who is killed can do nothing any more, but whoever waits at the other end of its pipe wakes.
    """
    script = 'read group; read never; kill -s KILL -- "-$group"'
    with subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # What ends this process by its group must not end the watcher with it.
        start_new_session=True,
    ) as watcher:

        def watch(group: int) -> None:
            assert watcher.stdin is not None
            watcher.stdin.write(b"%d\n" % group)
            watcher.stdin.flush()

        try:
            yield watch
        finally:
            watcher.kill()


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
