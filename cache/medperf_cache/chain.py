"""An append-only log whose lines are chained by their digests, and content beside it.

Each line has the SHA-256 of the line before it, as in the audit logs of Schneier and Kelsey
("Secure Audit Logs to Support Computer Forensics", 1999), without their keys: whoever may write
here can write all of it anew. A head file elsewhere has the number and the digest of the last line,
so that lines cannot be cut from the end without touching that, too.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import mkstemp
from typing import Any, BinaryIO

from medperf_cache.digests import CHUNK_BYTES, file_digest, is_digest, place
from medperf_cache.errors import NotCached, NotWritable
from medperf_cache.locks import taken

Record = dict[str, Any]

LINES, CONTENT = "lines.jsonl", "content"
NUMBER, PREVIOUS, KEPT, MENDED = "number", "previous", "kept", "mended"
# What is no mend, but a sign that somebody was here.
LOST_HEAD = "the head file was gone or unreadable, and was made anew"
# The digest before the first line.
NOTHING = "0" * 64
# The head file's size: written in place, it is all there or as it was.
HEAD_BYTES = 256


@dataclass(frozen=True)
class Line:
    """A line: its number, the SHA-256 of its bytes, and all that it says."""

    number: int
    digest: str
    record: Record


@dataclass(frozen=True)
class Head:
    """Up to where a log went: its last line's number and digest, where that begins and ends."""

    number: int = 0
    digest: str = NOTHING
    begins: int = 0
    ends: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a look at all of a log found.

    `last` is its last line's number and digest, None if there is none. `findings` each name a line
    and what is wrong with it; `notes` are what can happen to a log that nobody touched.
    """

    lines: int
    last: Head | None
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _End:
    """Where the next line goes: after `number`, at `offset`; before it, what mends the end."""

    number: int
    digest: str
    offset: int
    mends: list[Record]
    # What the last line lacks.
    filler: bytes = b""


class Chain:
    """One log in a folder. Processes may share it: each line is written by one at a time.

    `head` is the head file, best outside of the folder. `begin` gives the first line of a new log.
    A line that was torn when its process was killed is mended by the next `append`.
    """

    def __init__(self, folder: Path, head: Path, begin: Callable[[], Record]) -> None:
        self._folder, self._head_file, self._begin = folder, head, begin
        self._file = folder / LINES

    @property
    def exists(self) -> bool:
        """Whether there is such a log, or was one."""
        return os.path.lexists(self._file) or os.path.lexists(self._head_file)

    def append(self, record: Record) -> tuple[int, list[Record]]:
        """Write a line; it is on the disk when this returns. Its number, and what had to be mended.

        Raises `NotWritable` if that is not possible; the log is as it was then. The names in
        `record` are not "number", "previous" and "mended".
        """
        try:
            with self._opened() as file:
                end = self._end(file)
                return self._written(file, end, [*end.mends, record]), end.mends
        except OSError as error:
            raise NotWritable(
                f"{self._file} cannot be written: {error.strerror or error}"
            ) from error

    def keep(self, content: bytes | BinaryIO) -> str:
        """Have content beside the log, on the disk when this returns; its SHA-256.

        A line names it in a list `kept`. Raises `NotWritable` if that is not possible.
        """
        source = BytesIO(content) if isinstance(content, bytes) else content
        name = None
        try:
            self._make_folder(self._folder / CONTENT)
            descriptor, name = mkstemp(dir=self._folder / CONTENT, prefix=".new-")
            digest = sha256()
            with os.fdopen(descriptor, "wb") as new:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    new.write(chunk)
                new.flush()
                os.fsync(new.fileno())
            path = place(self._folder / CONTENT, digest.hexdigest())
            self._make_folder(path.parent)
            os.replace(name, path)
            _sync_folder(path.parent)
            return digest.hexdigest()
        except OSError as error:
            raise NotWritable(
                f"{self._folder / CONTENT} cannot be written: {error.strerror or error}"
            ) from error
        finally:
            if name is not None:
                with suppress(OSError):
                    os.unlink(name)

    def kept(self, digest: str) -> bytes:
        """Content beside the log. Raises `NotCached` if it is not there, or is not what it was."""
        try:
            data = place(self._folder / CONTENT, digest).read_bytes()
        except OSError as error:
            raise NotCached(f"the content {digest} is gone from {self._folder}") from error
        if sha256(data).hexdigest() != digest:
            raise NotCached(f"the content {digest} in {self._folder} was changed")
        return data

    def lines(self) -> Iterator[Line]:
        """Every whole line that can be read, in its order; nothing is verified."""
        for data in self._raw(self._snapshot()[0]):
            line = _read(data.removesuffix(b"\n"))
            if line is not None:
                yield line

    def verify(self, noted: tuple[int, str] | None = None) -> Verdict:
        """Look at every line and at all content beside them, in time that grows with their size.

        `noted` is the number and the digest of a line, as they were noted elsewhere. Nothing is
        locked meanwhile: what is appended while this looks is not looked at.
        """
        size, head = self._snapshot()
        looking = _Looking()
        for data in self._raw(size):
            looking.take(data)
        verdict = looking.verdict(head, os.path.lexists(self._head_file), noted)
        verdict.findings.extend(self._content_findings(looking.kept))
        return verdict

    def _content_findings(self, kept: dict[str, int]) -> Iterator[str]:
        for digest, number in kept.items():
            path = place(self._folder / CONTENT, digest)
            try:
                found = file_digest(path)
            except OSError as error:
                how = "is gone" if isinstance(error, FileNotFoundError) else "cannot be read"
                yield f"line {number}: its content {digest} {how}"
                continue
            if found != digest:
                yield f"line {number}: its content {digest} was changed"

    def _snapshot(self) -> tuple[int, Head | None]:
        """The log's size and its head, of one moment."""
        try:
            file = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0, self._head()
        try:
            # Where that is not possible nobody writes, either.
            with suppress(OSError):
                taken(file, shared=True)
            return os.fstat(file).st_size, self._head()
        finally:
            os.close(file)

    def _raw(self, size: int) -> Iterator[bytes]:
        """The lines in the first so many bytes, the last perhaps torn, then without a line feed."""
        if not size:
            return
        with open(self._file, "rb") as file:
            for data in file:
                data = data[: max(0, size)]
                size -= len(data)
                if not data:
                    return
                yield data

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file of the lines, which no other process writes to during the block."""
        is_new = not self._file.exists()
        if is_new:
            self._make_folder(self._folder)
        file = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            taken(file)
            if is_new:
                _sync_folder(self._folder)
            yield file
        finally:
            os.close(file)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(folder.parent)

    def _end(self, file: int) -> _End:
        """Where the next line goes, whatever became of the last one."""
        size, head = os.fstat(file).st_size, self._head()
        if head is None:
            self._put_head(Head(), durably=True)
        known = head or Head()
        is_intact = known.ends <= size and (
            sha256(os.pread(file, known.ends - known.begins, known.begins)[:-1]).hexdigest()
            == known.digest
            or not known.number
        )
        start = known if is_intact else Head()
        rest = os.pread(file, size - start.ends, start.ends)
        whole, line_feed, torn = rest.rpartition(b"\n")
        end = _End(start.number, start.digest, start.ends + len(whole) + len(line_feed), [])
        for data in whole.split(b"\n") if line_feed else ():
            line = _read(data)
            end.number = line.number if line else end.number + 1
            end.digest = sha256(data).hexdigest()
        if not is_intact and known.number >= end.number:
            # What the head counted is gone, or another: the chain goes on after what was there, so
            # that it shows for ever.
            end.number, end.digest = known.number, known.digest
        if head is None and end.number:
            end.mends.append({MENDED: LOST_HEAD})
        if torn:
            self._mend(end, torn)
        return end

    def _mend(self, end: _End, torn: bytes) -> None:
        """A whole line that lacks nothing but its line feed gets that; less goes, and is told."""
        line = _read(torn)
        if line and (line.number, line.record[PREVIOUS]) == (end.number + 1, end.digest):
            end.number, end.digest = line.number, line.digest
            end.offset, end.filler = end.offset + len(torn), b"\n"
        else:
            told = f"a torn last line of {len(torn)} bytes, of a process that was killed, was cut"
            end.mends.append({MENDED: told, "torn_sha256": sha256(torn).hexdigest()})

    def _written(self, file: int, end: _End, records: list[Record]) -> int:
        if not end.number:
            records = [self._begin(), *records]
        data, number, digest, last = bytearray(end.filler), end.number, end.digest, 0
        for record in records:
            number += 1
            line = _encoded({**record, NUMBER: number, PREVIOUS: digest})
            digest, last = sha256(line).hexdigest(), len(data)
            data += line + b"\n"
        # What is there of a torn line is written over, and what is left of it goes.
        os.ftruncate(file, end.offset)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(file, data[done:], end.offset + done)
            os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, end.offset)
            raise
        # The line counts. A head that lags behind by it is no harm.
        with suppress(OSError):
            self._put_head(Head(number, digest, end.offset + last, end.offset + len(data)))
        return number

    def _head(self) -> Head | None:
        try:
            fields = json.loads(self._head_file.read_bytes())
            head = Head(*(fields[name] for name in ("number", "digest", "begins", "ends")))
            numbers = (head.number, head.begins, head.ends)
            is_whole = all(type(one) is int and one >= 0 for one in numbers)
            if is_whole and head.begins <= head.ends and is_digest(head.digest):
                return head
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return None

    def _put_head(self, head: Head, durably: bool = False) -> None:
        data = json.dumps(vars(head)).ljust(HEAD_BYTES - 1).encode("ascii") + b"\n"
        file = os.open(self._head_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, data, 0)
            if durably:
                os.ftruncate(file, len(data))
                os.fsync(file)
                _sync_folder(self._head_file.parent)
        finally:
            os.close(file)


class _Looking:
    """Takes the lines of a log in their order, and says what is wrong with them."""

    def __init__(self) -> None:
        self._findings: list[str] = []
        self._notes: list[str] = []
        self._digests: dict[int, str] = {}
        self._previous: dict[int, str] = {}
        self._unreadable: list[int] = []
        self._highest = self._count = 0
        self._is_torn = False
        # Content beside the log, with the first line that names it.
        self.kept: dict[str, int] = {}

    def take(self, data: bytes) -> None:
        """The next line, with its line feed; the last one may lack it."""
        line = _read(data.removesuffix(b"\n"))
        if not data.endswith(b"\n") and (line is None or line.number != self._highest + 1):
            self._is_torn = True
            return
        self._count += 1
        if line is None:
            self._unreadable.append(self._highest + 1)
            return
        number = line.number
        if number in self._digests:
            self._findings.append(f"line {number} is there more than once")
            return
        if number < self._highest:
            self._findings.append(
                f"line {number} stands after line {self._highest}: the order was changed"
            )
        self._digests[number], self._previous[number] = line.digest, line.record[PREVIOUS]
        self._highest = max(self._highest, number)
        for digest in line.record.get(KEPT, ()):
            self.kept.setdefault(digest, number)
        if MENDED in line.record:
            told = f"line {number}: {line.record[MENDED]}"
            (self._findings if told.endswith(LOST_HEAD) else self._notes).append(told)

    def verdict(self, head: Head | None, has_head: bool, noted: tuple[int, str] | None) -> Verdict:
        """What is to be said of all of them."""
        counted = head.number if head else 0
        self._say_gone(max(self._highest, counted), counted)
        self._say_changed(head)
        if self._count and head is None:
            how = "cannot be read" if has_head else "is gone"
            self._findings.append(
                f"the head file {how}: whether lines were cut after line {self._highest} "
                "cannot be told"
            )
        elif self._highest > counted:
            self._notes.append(
                f"the head file counts {counted} lines of {self._highest}, as after a kill"
            )
        if self._is_torn and self._highest >= counted:
            self._notes.append(
                f"after line {self._highest} there is a torn one, as of a process that was killed "
                "while it wrote it: the next line mends that"
            )
        if noted is not None:
            number, digest = noted
            if number not in self._digests:
                self._findings.append(f"line {number}, which was noted elsewhere, is gone")
            elif self._digests[number] != digest:
                self._findings.append(f"line {number} is not the one that was noted elsewhere")
        last = Head(self._highest, self._digests[self._highest]) if self._digests else None
        return Verdict(self._count, last, self._findings, self._notes)

    def _say_gone(self, highest: int, counted: int) -> None:
        for number in self._unreadable:
            if number in self._digests or number > highest:
                self._findings.append(f"what stands after line {number - 1} is no line")
            else:
                self._findings.append(f"line {number} was changed: it is no line any more")
        damaged = set(self._unreadable)
        expected = 1
        for number in [*sorted(self._digests.keys() | damaged), highest + 1]:
            if number > expected:
                last = number - 1
                lines = (
                    f"line {expected} is" if last == expected else f"lines {expected} to {last} are"
                )
                cut = last == counted and last > self._highest
                why = f", cut from the end: the head file counts {counted} lines" if cut else ""
                self._findings.append(f"{lines} gone{why}")
            expected = max(expected, number + 1)

    def _say_changed(self, head: Head | None) -> None:
        """A line is what it was if the one after it, or the head, says so and is so itself."""
        told = {head.number: head.digest} if head and head.number else {}
        for number in sorted(self._digests, reverse=True):
            if number in told and told[number] != self._digests[number]:
                after = f"line {number + 1}" if number + 1 in self._digests else "the head file"
                self._findings.append(
                    f"line {number} was changed: {after} has another digest of it"
                )
                # What it says of the line before is worth nothing.
                continue
            told.setdefault(number - 1, self._previous[number])
        if told.get(0, NOTHING) != NOTHING:
            self._findings.append("line 1 was changed: something was before it")


def _read(data: bytes) -> Line | None:
    """A line without its line feed; None if it is none."""
    try:
        record = json.loads(data)
        number, previous = record[NUMBER], record[PREVIOUS]
        kept = record.get(KEPT, [])
        if type(number) is int and number > 0 and is_digest(previous) and all(map(is_digest, kept)):
            return Line(number, sha256(data).hexdigest(), record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return None


def _encoded(record: Record) -> bytes:
    """A line without its line feed: in ASCII, which every tool shows."""
    return json.dumps(record, separators=(",", ":"), sort_keys=True, allow_nan=False).encode(
        "ascii"
    )


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
