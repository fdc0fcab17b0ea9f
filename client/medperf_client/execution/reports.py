"""Reports of compatibility tests: what was tested, what steps gave, what containers printed."""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf_cache.scratch import remove_tree
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.files import write_atomically

if TYPE_CHECKING:  # Whoever lists no logs does not pay for it.
    from medperf_cache.partials import Leftover
    from medperf_client.containers.library import Container, Input
    from medperf_client.execution.compatibility import Scenario

Report = dict[str, Any]
# The containers that a report names.
TESTED = ("data_preparator", "model", "evaluator")


def new_uid() -> str:
    """A UID that sorts by time. Many may be made in one second."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


class Reports:
    """Reports of compatibility tests, one JSON file each, with the logs of what ran."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(
        self,
        request: "Scenario",
        containers: "Mapping[str, Container]",
        given: "Mapping[str, Input]",
    ) -> Report:
        """A report that says what is tested, with a UID that sorts by time."""
        return {
            "uid": new_uid(),
            "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "benchmark": request.benchmark,
            **{
                role: {"name": containers[role].name, "uid": containers[role].uid}
                for role in TESTED
            },
            "demo_dataset_hash": None if request.data_path else request.demo_hash,
            "already_prepared": request.prepared,
            "given_data": {name: one.digest for name, one in given.items()},
            "passed": False,
        }

    def logs(self, uid: str) -> Path:
        """The folder for the output of the containers that a test runs, by its report's UID."""
        return self._folder / uid

    def save(self, report: Report) -> None:
        """Store a report. Raises `MedPerfError` if it cannot be written."""
        write_atomically(self._folder / f"{report['uid']}.json", json.dumps(report, indent=1))

    def all(self) -> list[Report]:
        """Every report, oldest first."""
        return [_read_report(path) for path in sorted(self._folder.glob("*.json"), key=_moment)]

    def get(self, uid: str) -> Report:
        """A report by UID; `latest` is the newest. Raises `UsageError` if there is none."""
        return _read_report(self._path(uid))

    def remove(self, uid: str) -> None:
        """Delete a report, however damaged, with its logs. Raises `UsageError` if there is none."""
        path = self._path(uid)
        # First, for without its report nobody could name them.
        remove_tree(path.with_suffix(""))
        path.unlink(missing_ok=True)

    def kept_logs(self) -> "Iterator[Leftover]":
        """What containers printed in tests, also in those that were killed and have no report."""
        from medperf_cache.partials import Leftover

        for path in sorted(self._folder.glob("*/*.log")):
            # Another process may be removing it.
            with suppress(FileNotFoundError):
                status = path.stat()
                yield Leftover("log", str(path), status.st_size, status.st_mtime)

    def clean_logs(
        self, unused_for_seconds: float | None = None, most_bytes: int | None = None
    ) -> "list[Leftover]":
        """Delete logs of that age, then the oldest until no more than `most_bytes` are left.

        Returns what was deleted. No test may run meanwhile.
        """
        logs = sorted(self.kept_logs(), key=lambda log: log.used)
        oldest = 0.0 if unused_for_seconds is None else time.time() - unused_for_seconds
        left = sum(log.size_bytes for log in logs)
        removed = []
        for log in logs:
            # Where there is no room at all, empty ones go too.
            too_much = most_bytes is not None and (left > most_bytes or most_bytes == 0)
            if log.used < oldest or too_much:
                left -= log.size_bytes
                removed.append(log)
                Path(log.name).unlink(missing_ok=True)
                # With the last one goes the folder.
                with suppress(OSError):
                    Path(log.name).parent.rmdir()
        return removed

    def _path(self, uid: str) -> Path:
        if uid == "latest":
            newest = max(self._folder.glob("*.json"), key=_moment, default=None)
        else:
            path = self._folder / f"{uid}.json"
            known = re.fullmatch(r"[0-9a-f-]+", uid) and path.is_file()
            newest = path if known else None
        if newest is None:
            raise UsageError(f"there is no test {uid!r}", hint="See: medperf test ls")
        return newest


def _moment(path: Path) -> tuple[str, int]:
    """When a report was made: its name has the second, and of those of one second files tell."""
    return path.name[: len("20260101-000000")], path.stat().st_mtime_ns


def _read_report(path: Path) -> Report:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report, dict) or not {"uid", "steps", "passed", *TESTED} <= report.keys():
            raise ValueError("it is no report of a test")
    except (OSError, ValueError, RecursionError) as error:
        raise MedPerfError(
            f"the report {path} cannot be read: {error}", hint="Delete it, and run the test again."
        ) from error
    return report
