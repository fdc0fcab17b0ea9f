"""Elements: what one job of a queue does, each a folder that the nodes and the client share.

```text
content/blobs content/trees   what steps read, by digest: copied once, never changed
elements/NAME/element.json    its steps in order, its ticket, and what people call it
elements/NAME/KEY/            a step: work.json, record.json, outputs/, log; see `executors.records`
runs/NAME/run.json            which elements, with their tickets, one submission is of
runs/NAME/NUMBER.log          what the job itself said
```

Nobody but its owner may enter the folder that holds all this. The ticket is new each time that an
element is made, so a job of one that was removed does nothing to one that took its place.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from medperf_cache.digests import is_digest
from medperf_cache.locks import hold
from medperf_cache.scratch import remove_tree, scratch, sweep
from medperf_client.errors import FAILED, OK, MedPerfError, UsageError
from medperf_client.execution.used import Meter, job_peak
from medperf_client.execution.work import OUTPUTS, Work, perform
from medperf_client.executors import records, room
from medperf_client.executors.content import own_folder
from medperf_client.executors.nodes import node_copies
from medperf_client.files import read_versioned, versioned, write_atomically

FORMAT = 1
ELEMENT, RUN, LOCK, CONTENT = "element.json", "run.json", "lock", "content"
# What a run says only where the profile does.
MORE = ("seconds", "memory_bytes", "node_folder")


@dataclass(frozen=True)
class Element:
    """What one job does: steps in order, by their keys. `ticket` tells this making of it apart.

    Parts of one model have the same `part_of`, and others none.
    """

    name: str
    ticket: str
    label: str
    made_of: str
    gpus: int
    steps: tuple[str, ...]
    part_of: str = ""

    def write(self, folder: Path) -> None:
        """Have a folder say what it is."""
        fields = {**vars(self), "steps": list(self.steps)}
        write_atomically(folder / ELEMENT, versioned(FORMAT, fields))

    @classmethod
    def read(cls, folder: Path) -> "Element | None":
        """What a folder says that it is; None if there is none. Raises `MedPerfError`."""
        try:
            fields = read_versioned(FORMAT, folder / ELEMENT)
            found = cls(**{**fields, "steps": tuple(fields["steps"])})
            if not all(map(is_digest, (found.name, *found.steps))):
                raise ValueError("its name, or that of a step, is no SHA-256")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _unreadable(folder / ELEMENT, error, folder) from error
        return found


@dataclass(frozen=True)
class Run:
    """One submission: names and tickets of its elements, whose places are their numbers.

    Each job may take so many `seconds` and `memory_bytes` (None: what the queue gives), and copies
    what it reads to `node_folder`, where variables of the job may stand (None: it does not).
    """

    elements: tuple[tuple[str, str], ...]
    tries: tuple[int, ...]
    gpus: int
    seconds: int | None = None
    memory_bytes: int | None = None
    node_folder: str | None = None

    @cached_property
    def tried(self) -> dict[tuple[str, str], int]:
        """Which try this is at each of its elements, by name and ticket."""
        return dict(zip(self.elements, self.tries, strict=True))

    @property
    def text(self) -> str:
        """It as JSON."""
        fields = {
            "elements": [list(one) for one in self.elements],
            "tries": list(self.tries),
            "gpus": self.gpus,
            **{name: getattr(self, name) for name in MORE if getattr(self, name) is not None},
        }
        return versioned(FORMAT, fields)

    @property
    def name(self) -> str:
        """The SHA-256 of its text, which its jobs are marked with."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, folder: Path) -> "Run | None":
        """The run of a folder; None if there is none, or no more.

        Raises `MedPerfError` if it is not what the folder's name says.
        """
        try:
            fields = read_versioned(FORMAT, folder / RUN)
            elements = tuple((str(name), str(ticket)) for name, ticket in fields["elements"])
            more = {name: fields.get(name) for name in MORE}
            found = cls(elements, tuple(fields["tries"]), fields["gpus"], **more)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _unreadable(folder / RUN, error, folder) from error
        if found.name != folder.name or len(found.tries) != len(elements):
            raise MedPerfError(f"{folder / RUN} is not the run that its name says")
        return found


def _unreadable(file: Path, error: Exception, folder: Path) -> MedPerfError:
    if isinstance(error, OSError):
        return MedPerfError(f"{file} cannot be read: {error.strerror}")
    hint = f"Delete {folder}: what was to be done there is sent again by who runs it again."
    return MedPerfError(f"{file} cannot be read: {error!r}", hint)


def place_of(run: Path, name: str) -> Path:
    """The folder of an element of a run, whose own folder is `run`."""
    return run.parent.parent / "elements" / name


def do_element(run: Path, number: int) -> int:
    """Do the steps of one element that have no record yet; the exit code of the last.

    A second job on the same element waits for the first, and finds the records. One whose element
    was removed meanwhile does nothing. Raises `UsageError` for a number that the run has not.
    """
    sent = Run.read(run)
    if sent is None:
        raise MedPerfError(f"{run} was taken back")
    if number >= len(sent.elements):
        raise UsageError(f"{run} has no element {number}")
    name, ticket = sent.elements[number]
    folder = place_of(run, name)
    element = Element.read(folder)
    if element is None or element.ticket != ticket:
        raise MedPerfError(f"element {name} was taken back")
    room.wait_in(folder)
    with hold(folder / LOCK, "never said, for it waits"):
        # Both times are of the clock that the shared file system has.
        os.utime(folder / LOCK)
        waited = (folder / LOCK).stat().st_mtime - (run / RUN).stat().st_mtime
        return _do_steps(folder, element.steps, sent, max(waited, 0.0))


def _do_steps(folder: Path, keys: Sequence[str], sent: Run, waited: float | None) -> int:
    content = folder.parent.parent / CONTENT
    copies = node_copies(content, sent.node_folder) if sent.node_folder else None
    for key in keys:
        place = folder / key
        if not (place / records.RECORD).exists():
            tried = partial(_tried, place, sent, waited, copies.performed if copies else perform)
            outcome = tried()
            if "error" in outcome and room.is_blamed(outcome["error"]["text"], place):
                # That says nothing of the model. A second time it does: it may be what fills it.
                outcome = tried()
            room.insist(partial(records.keep, outcome, place))
            waited = None
        if is_failed(place):
            return FAILED
    return OK


def _tried(
    place: Path, sent: Run, waited: float | None, by: Callable[[Work], dict[str, Any]]
) -> dict[str, Any]:
    # Another try, or another node, may have been cut off here.
    remove_tree(place / OUTPUTS)
    room.insist(partial((place / OUTPUTS).mkdir, mode=0o700))
    room.wait_in(place)
    with _on_this_node() as area:
        work = records.described(place)
        work = replace(work, job=replace(work.job, scratch=area))
        meter = Meter(
            work.job.platform,
            job_peak(),
            waited_seconds=waited,
            asked_seconds=sent.seconds,
            asked_bytes=sent.memory_bytes,
        )
        return records.tried(work, by, meter)


def is_failed(place: Path) -> bool:
    """Whether the record of a step says that it failed; false if there is none."""
    return (place / records.RECORD).exists() and "error" in _record(place)


def is_done(place: Path) -> bool:
    """Whether a step has a record, and did not fail."""
    return (place / records.RECORD).exists() and not is_failed(place)


def is_over(folder: Path | str, element: Element) -> bool:
    """Whether nothing of an element is left to do: its steps have records, or one says it failed.

    A record that cannot be read is one: whoever collects it says so.
    """
    try:
        for key in element.steps:
            if not os.path.exists(f"{folder}/{key}/{records.RECORD}"):
                return False
            if is_failed(Path(folder, key)):
                return True
    except MedPerfError:
        return True
    return True


def _record(place: Path) -> dict[str, Any]:
    try:
        return read_versioned(records.FORMAT, place / records.RECORD)
    except (OSError, ValueError) as error:
        raise _unreadable(place / records.RECORD, error, place.parent) from error


@contextmanager
def _on_this_node() -> Iterator[Path]:
    """A folder on the node's own disk; those of jobs that were killed there go first."""
    area = own_folder(Path(tempfile.gettempdir(), f"medperf-{os.getuid()}"))
    sweep(area)
    with scratch(area) as folder:
        yield folder
