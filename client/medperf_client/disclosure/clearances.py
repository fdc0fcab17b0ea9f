"""What members decided on the findings in documents of this site, by the documents' digests."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medperf_cache.locks import hold
from medperf_client.disclosure.documents import digest
from medperf_client.disclosure.review import Decision
from medperf_client.errors import MedPerfError
from medperf_client.files import is_absent, read_versioned, versioned, write_atomically

FORMAT = 1
Decisions = tuple[Decision, ...]


class Clearances:
    """Keeps decisions below a folder, a file for each document. One that changed has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, document: Any) -> Decisions:
        """What was decided on a document. Raises `MedPerfError` if that cannot be read."""
        file = self._file(document)
        try:
            if is_absent(file):
                return ()
            return tuple(Decision(**one) for one in read_versioned(FORMAT, file)["decisions"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise MedPerfError(
                f"what was decided on findings, {file}, cannot be read: {error}",
                "Delete it, and decide anew: nothing is released without.",
            ) from error

    def change(self, document: Any, changed: Callable[[Decisions], Decisions]) -> Decisions:
        """Store what was decided on a document; two processes do so one after the other."""
        with hold(self._folder / "lock", "another medperf process decides on findings"):
            decisions = changed(self.of(document))
            fields = {"decisions": [asdict(one) for one in decisions]}
            write_atomically(self._file(document), versioned(FORMAT, fields))
        return decisions

    def _file(self, document: Any) -> Path:
        return self._folder / f"{digest(document)}.json"
