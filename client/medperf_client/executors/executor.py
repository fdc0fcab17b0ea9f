"""A queue that a hospital has, in five verbs: prepare, submit, look, cancel, collect.

Each may be repeated after a crash without harm. `prepare` and `collect` are about files, and the
same for every queue; a queue itself is one more class, which knows how to send a run, to tell of
its jobs, and to end some.
"""

import os
import pkgutil
import secrets
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from medperf_cache.digests import is_digest
from medperf_cache.errors import InUse
from medperf_cache.locks import hold, taken
from medperf_cache.scratch import remove_tree, scratch, sweep
from medperf_client.containers.library import Input
from medperf_client.containers.spec import ALL_GPUS
from medperf_client.errors import MedPerfError
from medperf_client.execution.plan import Plan
from medperf_client.execution.steps import Perform
from medperf_client.execution.used import Used
from medperf_client.executors import elements, records, room, worker
from medperf_client.executors.collected import Collected
from medperf_client.executors.content import UNUSED_SECONDS, Content, require_own
from medperf_client.executors.elements import Element, Run
from medperf_client.files import write_atomically
from medperf_client.settings.executors import (
    KINDS,
    ExecutorSettings,
    executor_settings,
    require_fit,
)

# In the folder of a run: that the queue has taken it, and as what.
SENT = "job"
MARK = "medperf"
# Beside the elements: a file that is open in a folder may keep that from being removed.
TAKING_IN = "taking-in"
# Held by those that make elements of content together, and alone by who deletes content.
CONTENT_LOCK = "content.lock"
# In one run: Slurm's MaxArraySize is 1001 unless somebody changed it.
MOST = 1000
# How long a job may take to end that was cancelled.
END_SECONDS = 10


class State(Enum):
    """What a queue says of a job, in words for people."""

    WAITS = "waits in the queue"
    RUNS = "runs"
    HELD = "is held, for it could not be started"
    DONE = "ended"
    FAILED = "ended before it was done"
    PREEMPTED = "had to make room for others"
    NODE_FAILED = "lost its node"
    GONE = "is not known to the queue any more"
    TOO_LONG = "ran longer than its time"
    NO_MEMORY = "ran out of memory"
    CANCELLED = "was cancelled"

    @property
    def is_live(self) -> bool:
        """Whether the job may still do something."""
        return self in (State.WAITS, State.RUNS)

    @property
    def is_queued(self) -> bool:
        """Whether the queue still has the job."""
        return self.is_live or self == State.HELD


@dataclass(frozen=True)
class Seen:
    """A job that the queue knows: the element of that number in the run of that name.

    `job` is what the queue calls it, `reason` why it waits, or how it ended.
    """

    job: str
    run: str
    number: int
    state: State
    node: str = ""
    reason: str = ""


class Away(MedPerfError):
    """The queue does not answer now. What it was given it has."""

    told = "the queue does not answer, and is asked again"


class NoRoom(Away):
    """The shared folder has no room now for what is to be sent."""

    told = "what is to be sent waits for room"


class Refused(MedPerfError):
    """The queue does not take some elements, by name; what else it was given it has."""

    def __init__(self, elements: Mapping[str, MedPerfError]) -> None:
        error = next(iter(elements.values()))
        super().__init__(str(error), error.hint)
        self.elements = elements


class Executor(ABC):
    """Has models evaluated by the jobs of a queue; `at_once` of a run's run at a time (None: any).

    What they need and give lies in `folder`, which the nodes share and nobody else may enter.
    Processes of one user may use it at once.
    """

    # Of `directives`, those that are not a profile's to give; what no path may have in it.
    own_options: ClassVar[frozenset[str]] = frozenset()
    placeholders: ClassVar[str] = ""

    def __init__(self, settings: ExecutorSettings, at_once: int | None = None) -> None:
        self._settings, self._at_once = settings, at_once
        self.folder = settings.shared_folder
        self._content = Content(self.folder / elements.CONTENT, self.folder / "incoming")
        self._refused: set[str] = set()
        # A folder on a network is asked what is new, and not read anew: runs by name, which is
        # that of their text, and elements by name, with what tells their file apart.
        self._read_runs: dict[str, Run] = {}
        self._read: dict[str, tuple[tuple[int, int], Element]] = {}

    # What a queue has to know.

    @abstractmethod
    def send(self, run: Run, folder: Path) -> str:
        """Give the queue a run, marked with its name; what the queue calls it.

        Whoever is killed in here ends what it was doing, or leaves it to end by itself before
        the descriptors that it inherited are closed. Raises `Away`, and `MedPerfError` with the
        queue's words if it refuses.
        """

    @abstractmethod
    def jobs(self, runs: Sequence[str]) -> list[Seen]:
        """The jobs of these runs, those that ended too as long as the queue knows of them.

        Others' jobs, and those without the mark, are none. Raises `Away`.
        """

    @abstractmethod
    def end(self, jobs: Sequence[Seen]) -> None:
        """End these jobs, if there are any; no error for those that ended. Raises `Away`."""

    def strays(self) -> list[Seen]:
        """The jobs of runs of this folder that were forgotten, if the queue can bring some back.

        Others' jobs are none. Raises `Away`.
        """
        return []

    @property
    def cases_per_job(self) -> int | None:
        """How many cases of a model that can be shared out a job does at most; None: all."""
        return self._settings.cases_per_job

    def asked(self) -> tuple[int | None, int | None]:
        """The seconds and bytes of memory that each job asks for; None for what is not known."""
        return None, None

    def script(self, folder: Path, number: str) -> str:
        """What a job of a run runs: the element whose number an expression of the shell gives.

        As a login shell, so that there are modules.
        """
        python = self._settings.python or sys.executable
        path = os.environ.get("PYTHONPATH")
        found = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep))) if path else ""
        words = [python, "-m", worker.__name__, "--element", str(folder)]
        lines = [
            "#!/bin/bash -l",
            "umask 077",
            *([f"export PYTHONPATH={shlex.quote(found)}"] if found else []),
            *self._settings.setup,
            f'exec {shlex.join(words)} "{number}"',
        ]
        return "\n".join([*lines, ""])

    # The five verbs.

    def prepare(self, plan: Plan) -> None:
        """Have a folder for what is planned, and all that it reads.

        One that is there is kept, unless it has more to do than that: somebody else has done it.
        Raises `MedPerfError` if others may enter the shared folder, `WrongHash` for what is not
        what its digest says, and what `Steps.take` does.
        """
        self._open()
        folder = self.place(plan.name)
        found = Element.read(folder)
        keys = tuple(one.key for one in plan.planned)
        if found is not None and set(keys) <= set(found.steps):
            others = [folder / key for key in found.steps if key not in keys]
            if all(map(elements.is_done, others)):
                return
        if found is not None:
            try:
                self.cancel([plan.name])
            except Away:
                # It does more than is needed.
                return
        made_of = plan.made_of or plan.name
        element = Element(
            plan.name,
            secrets.token_hex(16),
            plan.label,
            made_of,
            self._gpus(plan),
            keys,
            made_of if plan.is_part else "",
        )
        with self._naming_content(), scratch(self.folder / "incoming") as area:
            works = plan.works(folder, self._at_hand)
            made = area / "element"
            made.mkdir(mode=0o700)
            for work in works:
                (made / work.key).mkdir(mode=0o700)
                records.describe(work, made / work.key)
            element.write(made)
            remove_tree(folder)
            try:
                os.rename(made, folder)
            except OSError as error:
                # Unless another process that prepares the same was there first.
                if Element.read(folder) is None:
                    raise MedPerfError(f"cannot make {folder}: {error.strerror}") from error

    def submit(self, names: Sequence[str]) -> list[str]:
        """Send elements that no job is at, in one run for those that ask for the same; the runs.

        Nothing is sent twice: what the queue has of them already is looked for first, by the mark,
        while no other client sends. Jobs that the queue has again of runs that were forgotten are
        ended. Raises `Away`, and `Refused` once all else was sent.
        """
        refused: dict[str, MedPerfError] = {}
        with self._alone() as descriptor:
            runs = self._runs()
            jobs = self.jobs(list(runs))
            self._note(jobs)
            seen = self._newest(runs, jobs)
            held = [seen[name] for name in names if name in seen and not seen[name].state.is_live]
            idle = [one for one in names if one not in seen or not seen[one].state.is_live]
            made = self._new_runs(idle, runs)
            os.set_inheritable(descriptor, True)
            for run in made:
                folder = self.folder / "runs" / run.name
                write_atomically(folder / elements.RUN, run.text)
                try:
                    job = self.send(run, folder)
                except Away:
                    raise
                except MedPerfError as error:
                    refused |= dict.fromkeys((name for name, _ in run.elements), error)
                else:
                    write_atomically(folder / SENT, job)
            # Last: who is cut off would find cancelled jobs, and nothing in their place.
            self.end([one for one in held if one.state.is_queued])
            # What cannot be ended now is left for another time.
            with suppress(MedPerfError):
                self.end(self.strays())
        if refused:
            raise Refused(refused)
        return [run.name for run in made]

    def look(self) -> dict[str, Seen]:
        """What the queue says of the newest job of each element. Raises `Away`."""
        runs = self._runs()
        return self._newest(runs, self.jobs(list(runs)))

    def cancel(self, names: Sequence[str]) -> list[Seen]:
        """End the jobs of elements, and take back those that are not over; the jobs it ended.

        A job is given some seconds to end before its folder goes.
        """
        live = self._queued(names)
        self.end(live)
        patience = time.monotonic() + END_SECONDS
        while self._queued(names) and time.monotonic() < patience:
            time.sleep(1)
        for name in names:
            element = Element.read(self.place(name))
            if element is not None and not elements.is_over(self.place(name), element):
                self.forget(name)
        self._sweep_runs()
        return live

    def collect(self, plan: Plan, trouble: MedPerfError | None = None) -> Perform:
        """What gives `Steps` the records and outputs of an element's steps, verified anew.

        It raises how a step failed, or `trouble` where it has no record, and `WrongHash` for what
        is not what it was to be. All stays where it is until `forget`.
        """
        return Collected(self.place(plan.name), plan, trouble, self._refused.add)

    # What goes with them.

    def used(self, name: str, keys: Iterable[str]) -> list[Used]:
        """What each of these steps of an element took, of those that came to an end."""
        places = (self.place(name) / key for key in keys)
        return [found for place in places if (found := records.used(place))]

    def place(self, name: str) -> Path:
        """The folder of an element."""
        return self.folder / "elements" / name

    def has(self, name: str) -> bool:
        """Whether an element was prepared, and not forgotten.

        Raises `MedPerfError` if the folder is not there any more in which it would be.
        """
        found = self.element(name) is not None
        if not found:
            self.require_folder(is_used=True)
        return found

    def require_folder(self, is_used: bool = False) -> None:
        """Raise `MedPerfError` unless the folder is there, or can be made as it was never used.

        One on a disk that is not mounted is not taken for one in which nothing is left.
        """
        wanted = self.folder / "elements" if is_used else self.folder
        try:
            is_right = wanted.is_dir()
            if not is_right and not is_used:
                is_right = self.folder.parent.is_dir() and not os.path.lexists(self.folder)
            why = f"{wanted if is_used else self.folder} is no folder"
        except OSError as error:
            is_right, why = False, f"{self.folder} cannot be looked at: {error.strerror}"
        if not is_right:
            other = "" if os.path.lexists(self.folder.parent) else f", make {self.folder.parent}"
            raise MedPerfError(
                f"executor.shared_folder of the profile is not there: {why}",
                f"Mount its disk{other}, or name another folder.",
            )

    def element(self, name: str) -> Element | None:
        """The element of that name, as it is now; None if there is none."""
        # As text: of thousands each is asked for time and again, and a `Path` takes as long as it.
        try:
            status = os.stat(f"{self.folder}/elements/{name}/{elements.ELEMENT}")
        except OSError:
            return Element.read(self.place(name))
        mark = (status.st_ino, status.st_mtime_ns)
        known = self._read.get(name)
        if known is None or known[0] != mark:
            found = Element.read(self.place(name))
            if found is None:
                return None
            known = self._read[name] = (mark, found)
        return known[1]

    def is_over(self, name: str) -> bool:
        """Whether nothing of an element is left to do."""
        found = self.element(name)
        return found is not None and elements.is_over(f"{self.folder}/elements/{name}", found)

    def is_under_way(self, name: str) -> bool:
        """Whether an element is there, and none of its steps has failed."""
        found = self.element(name)
        return found is not None and not any(
            elements.is_failed(self.place(name) / key) for key in found.steps
        )

    def all(self) -> list[Element]:
        """The elements that were prepared, and not forgotten."""
        folders = sorted((self.folder / "elements").glob("*"))
        found = (Element.read(path) for path in folders if is_digest(path.name))
        return [one for one in found if one is not None]

    def taking_in(self) -> AbstractContextManager[None]:
        """Be the one client that collects and forgets, for a block; others wait."""
        return hold(self.folder / TAKING_IN, "never said, for it waits")

    def forget(self, name: str) -> None:
        """Delete an element that was collected; one with wrong bytes stays, to be looked at."""
        if name in self._refused:
            return
        # Out of sight first: a job that begins now does not find it.
        with suppress(FileNotFoundError):
            (self.place(name) / elements.ELEMENT).unlink()
        remove_tree(self.place(name))
        self._read.pop(name, None)

    def sweep(self, done: Iterable[str], but: Collection[str] = ()) -> None:
        """Forget elements whose results, told by what they are made of, are kept by now.

        Those that `but` names stay: they are for another result of the same.
        What jobs wrote into the folders of elements that were forgotten before goes, too; so do
        runs of which no element is left, whose jobs are ended, and content that was not used for
        a while.
        """
        for folder in (self.folder / "elements").glob("*"):
            if is_digest(folder.name) and not (folder / elements.ELEMENT).exists():
                remove_tree(folder)
        results = set(done)
        every = self.all() if results else ()
        names = [one.name for one in every if one.made_of in results and one.name not in but]
        # What cannot be ended now is left for another time.
        with suppress(MedPerfError):
            if names:
                self.cancel(names)
            for name in names:
                self.forget(name)
            self._sweep_runs()
        self.sweep_content()

    def content(self) -> dict[str, int]:
        """How many files (`blobs`) and folders (`trees`) the nodes have a copy of."""
        return self._content.counts()

    def sweep_content(self, seconds: float = UNUSED_SECONDS) -> None:
        """Delete content that no element names, and that was not used for so long.

        While somebody makes an element, or where one cannot be read, all of it stays.
        """
        if not self._content.unused(seconds):
            return
        with suppress(InUse, MedPerfError, OSError), self._naming_content(alone=True):
            self._content.sweep()
            named = {
                path.name
                for element in self.all()
                for key in element.steps
                for path in records.described(self.place(element.name) / key).reads
            }
            unused = self._content.unused(seconds)
            self._content.discard(copy for copy in unused if copy.name not in named)

    def _sweep_runs(self) -> None:
        """Raises `Away`: a run's folder stays until the queue has none of its jobs."""
        runs, folders = self._runs(), self._run_folders()
        if runs.keys() == folders.keys() and all(map(self._is_whole, runs.values())):
            return
        # Who makes a run now, or was killed as its jobs were sent, is waited for.
        with self._alone():
            runs, folders = self._runs(), self._run_folders()
            queued = [one for one in self.jobs(list(folders)) if one.state.is_queued]
            self.end([one for one in queued if not self._is_wanted(runs.get(one.run), one.number)])
            for name, folder in folders.items():
                of_it = runs[name].elements if name in runs else ()
                if not any(self._is_current(*one) for one in of_it):
                    remove_tree(folder)

    def tries(self, name: str, runs: Mapping[str, Run] | None = None) -> int:
        """How many times an element was sent."""
        element = self.element(name)
        if element is None:
            return 0
        of_it = (name, element.ticket)
        found = [
            one.tried[of_it]
            for run, one in (self._runs() if runs is None else runs).items()
            if of_it in one.tried and self._sent_as(run)
        ]
        return max(found, default=0)

    def logs(self, name: str, seen: Seen | None = None) -> list[Path]:
        """What a job and its steps printed: the job's own words first."""
        own = [self.folder / "runs" / seen.run / f"{seen.number}.log"] if seen else []
        element = self._element(name)
        steps = [self.place(name) / key / "log" for key in element.steps]
        return [path for path in own + steps if path.exists()]

    def wanted(self, run: str) -> list[int]:
        """The numbers of the elements of a run that are there, as they were when it was sent."""
        of_it = Run.read(self.folder / "runs" / run)
        numbered = enumerate(of_it.elements) if of_it else ()
        return [number for number, one in numbered if self._is_current(*one)]

    def _queued(self, names: Iterable[str]) -> list[Seen]:
        """The jobs of elements that the queue has."""
        seen = self.look()
        return [seen[one] for one in names if one in seen and seen[one].state.is_queued]

    def _new_runs(self, names: Iterable[str], runs: Mapping[str, Run]) -> list[Run]:
        """One more try at those of these elements that are not over, by how many GPUs they ask."""
        asked: dict[int, list[tuple[Element, int]]] = {}
        for name in names:
            element = self._element(name)
            if not elements.is_over(self.place(name), element):
                tries = self.tries(name, runs) + 1
                asked.setdefault(element.gpus, []).append((element, tries))
        return [
            Run(
                tuple((element.name, element.ticket) for element, _ in these),
                tuple(tries for _, tries in these),
                gpus,
                *self.asked(),
                self._settings.node_folder,
            )
            for gpus, every in asked.items()
            for these in (every[i : i + MOST] for i in range(0, len(every), MOST))
        ]

    def _open(self) -> None:
        self.require_folder()
        inner = ("elements", "runs", "incoming", elements.CONTENT)
        for folder in (self.folder, *(self.folder / name for name in inner)):
            try:
                folder.mkdir(exist_ok=True, mode=0o700)
            except OSError as error:
                raise MedPerfError(
                    f"cannot make {folder}, for executor.shared_folder of the profile: "
                    f"{error.strerror}",
                    "Name a folder that you may write to, here and on each node.",
                ) from error
            require_own(folder)
        sweep(self.folder / "incoming")

    def _naming_content(self, alone: bool = False) -> AbstractContextManager[None]:
        busy = "another client makes an element"
        return hold(self.folder / CONTENT_LOCK, busy, shared=not alone, wait=not alone)

    def _gpus(self, plan: Plan) -> int:
        return (self._settings.gpus or 1) if plan.gpus == ALL_GPUS else plan.gpus

    def _element(self, name: str) -> Element:
        found = Element.read(self.place(name))
        if found is None or found.name != name:
            raise MedPerfError(f"{self.place(name)} is not the element that its name says")
        return found

    def _is_current(self, name: str, ticket: str) -> bool:
        found = self.element(name) if is_digest(name) else None
        return found is not None and found.ticket == ticket

    def _is_wanted(self, run: Run | None, number: int) -> bool:
        """Whether the element of that number in a run is there, as it was when that was sent."""
        of_it = run.elements if run else ()
        return number < len(of_it) and self._is_current(*of_it[number])

    def _runs(self) -> dict[str, Run]:
        """The runs that were written down, by name."""
        # Another process may forget one meanwhile; what one says is in its name.
        known, folders = self._read_runs, self._run_folders()
        found = ((name, known.get(name) or Run.read(place)) for name, place in folders.items())
        self._read_runs = {name: run for name, run in found if run is not None}
        return self._read_runs

    def _run_folders(self) -> dict[str, Path]:
        """Those of the runs, and of what was to become one, by name."""
        folders = sorted((self.folder / "runs").glob("*"))
        return {one.name: one for one in folders if is_digest(one.name)}

    def _is_whole(self, run: Run) -> bool:
        """Whether each element of a run is there, as it was when that was sent."""
        return all(self._is_current(*one) for one in run.elements)

    def _note(self, jobs: Iterable[Seen]) -> None:
        """Note what the queue has taken of a client that was cut off before it did."""
        for one in jobs:
            sent = self.folder / "runs" / one.run / SENT
            if not sent.exists():
                write_atomically(sent, one.job)

    def _sent_as(self, run: str) -> str:
        """What the queue calls a run; nothing if that was not noted."""
        try:
            return (self.folder / "runs" / run / SENT).read_text()
        except FileNotFoundError:
            return ""

    def _newest(self, runs: Mapping[str, Run], jobs: Iterable[Seen]) -> dict[str, Seen]:
        """The job of the last try at each element; one that the queue forgot is `GONE`."""
        found: dict[str, tuple[int, Seen]] = {}
        told = {(one.run, one.number): one for one in jobs}
        for run, of_it in runs.items():
            job = self._sent_as(run)
            for number, (one, tries) in enumerate(zip(of_it.elements, of_it.tries, strict=True)):
                seen = told.get((run, number))
                if (seen is None and not job) or not self._is_current(*one):
                    continue
                seen = seen or Seen(job, run, number, State.GONE)
                if one[0] not in found or tries > found[one[0]][0]:
                    found[one[0]] = (tries, seen)
        return {name: seen for name, (_, seen) in found.items()}

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Be the one client that sends; what a killed one left sending is waited for.

        Raises `NoRoom` for what has none, here or in the block.
        """
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                taken(descriptor)
                yield descriptor
            finally:
                os.close(descriptor)
        except (MedPerfError, OSError) as error:
            if not room.is_lacking(error):
                raise
            raise NoRoom(str(error)) from error

    def _at_hand(self, given: Input, is_own: bool) -> Path:
        """Where the nodes find an input: a copy by its digest, unless it is on their disk already.

        What `is_own` is there to stay, and is read where it lies, unless it is a part of that.
        """
        path = given.path.resolve()
        if is_own and given.names is None and path.is_relative_to(self.folder.resolve()):
            return path
        return self._content.at_hand(given)


def executor_of(named: Mapping[str, Any], at_once: int | None = None) -> Executor:
    """The queue that a profile names. Raises `UsageError` for settings that it cannot have."""
    settings = executor_settings(named, "this profile")
    kind: type[Executor] = pkgutil.resolve_name(KINDS[settings.kind])
    require_fit(settings, kind.own_options, kind.placeholders)
    return kind(settings, at_once)
