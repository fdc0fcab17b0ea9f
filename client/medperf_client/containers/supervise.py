"""What the platforms share when a task fails: what to say of it."""

import os
import re
from pathlib import Path

from medperf_client.containers.runner import Job
from medperf_client.errors import ContainerFailed

TAIL_LINES, TAIL_BYTES = 15, 8192

_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)")


def failure(job: Job, what: str, hint: str = "") -> ContainerFailed:
    """The error for a task that `what`: names its log, and shows the log's last lines."""
    lines = last_lines(job.log)
    ended = f"Its output, in {job.log}, ends with:" if lines else f"Its log {job.log} is empty."
    return ContainerFailed("\n  ".join([f"task {job.task.name} {what}. {ended}", *lines]), hint)


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
