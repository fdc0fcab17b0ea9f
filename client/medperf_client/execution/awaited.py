"""What models were left to a queue: whoever comes later knows what for, and collects it."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medperf_client.errors import MedPerfError
from medperf_client.execution.results import RealUid
from medperf_client.files import read_versioned, versioned, write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Awaited:
    """That an element of a queue, named so, evaluates a model. The rest is as in `Asked`.

    `folder` is the one in which the element is, if it was noted.
    """

    element: str
    benchmark: int | str
    dataset: int | str
    model: int | str
    use_memo: bool = True
    may_fail: bool = False
    ordered: bool = False
    folder: str = ""

    def is_elsewhere(self, folder: Path) -> bool:
        """Whether it was noted that the element is in another folder than this."""
        return bool(self.folder) and os.path.realpath(self.folder) != os.path.realpath(folder)

    @property
    def called(self) -> str:
        """What people are shown of it."""
        return f"benchmark {self.benchmark} on dataset {self.dataset}"


class AwaitedModels:
    """The models of one member that were left to a queue, a file each, until they are collected.

    `real_uid` tells what the queue of submissions' own UIDs have become.
    """

    def __init__(self, folder: Path, real_uid: RealUid) -> None:
        self._folder, self._real_uid = folder, real_uid

    def all(self) -> list[Awaited]:
        """Every model. Raises `MedPerfError` for a file that cannot be read."""
        return [note for _, note in self._read()]

    def count(self) -> int:
        """How many models, of which one that is done in parts has several notes."""
        return len({replace(note, element="", folder="") for note in self.all()})

    def add(self, note: Awaited) -> None:
        """Remember one, or in other words than before."""
        write_atomically(self._place(note), versioned(FORMAT, asdict(note)))

    def drop(self, note: Awaited) -> None:
        """Forget one: it was collected."""
        self._place(note).unlink(missing_ok=True)

    def cancel(self, element: str) -> None:
        """Forget all that an element is for: nobody wants it any more."""
        for path in self._folder.glob(f"{element}-*.json"):
            path.unlink(missing_ok=True)

    def elements(self, like: Awaited) -> list[str]:
        """Those of which all that a note says holds, but for the element."""
        found = [note for _, note in self._read(f"*-{_ending(like)}")]
        here = [note for note in found if not note.is_elsewhere(Path(like.folder))]
        wanted = replace(like, element="", folder="")
        return [note.element for note in here if replace(note, element="", folder="") == wanted]

    def anew(self) -> set[str]:
        """The elements that evaluate a model anew, whatever result it has."""
        return {note.element for note in self.all() if not note.use_memo}

    def bind(self) -> None:
        """Write down the UIDs that the registry has given by now, before the queue forgets them.

        A note is found by these in the name of its file.
        """
        for path, note in self._read():
            if path != self._place(note):
                self.add(note)
                path.unlink(missing_ok=True)

    def _place(self, note: Awaited) -> Path:
        return self._folder / f"{note.element}-{_ending(note)}"

    def _read(self, pattern: str = "*.json") -> Iterator[tuple[Path, Awaited]]:
        for path in sorted(self._folder.glob(pattern)):
            try:
                note = Awaited(**read_versioned(FORMAT, path))
            except FileNotFoundError:
                # Another process has just collected it.
                continue
            except (OSError, ValueError, TypeError) as error:
                raise MedPerfError(
                    f"the note {path} of a model in the queue cannot be read: {error}",
                    "Delete it; medperf benchmark run finds what its job gave all the same.",
                ) from error
            yield (
                path,
                replace(
                    note,
                    benchmark=self._real_uid(note.benchmark),
                    dataset=self._real_uid(note.dataset),
                    model=self._real_uid(note.model),
                ),
            )


def _ending(note: Awaited) -> str:
    """How the name of a note's file ends, whatever its element."""
    return f"b{note.benchmark}d{note.dataset}m{note.model}.json"
