"""The ledger of one registry: a line before anything leaves for it, and one for what came back."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from medperf_cache.chain import KEPT, NUMBER, PREVIOUS, Chain, Record, Verdict
from medperf_cache.errors import NotCached, NotWritable
from medperf_client.errors import MedPerfError, Unrecorded, UsageError
from medperf_client.files import WRITE_HINT
from medperf_client.urls import without_password

FORMAT = "medperf-ledger-1"
BEGAN, WRITE, EXPORT, ANSWER = "began", "write", "export", "answer"
_WHO = {"at": str, "registry": str, "member": dict | None, "sha256": str, "bytes": int}
# What lines that are listed have, by their event.
FORMS: dict[str, dict[str, Any]] = {
    WRITE: {**_WHO, "method": str, "path": str},
    EXPORT: {**_WHO, "what": str, "file": str},
    ANSWER: {"at": str, "of": int},
}
MAY_HAVE: dict[str, Any] = {
    **{"sha256": str, "bytes": int, "body": str, "said": str, "attached": dict, "upload": dict},
    "agreed": list,
}
# A longer body lies beside the ledger: lines stay short enough to be read, and a result that is
# sent again is kept once.
MOST_INLINE_BYTES = 4096
# Of the registry's words.
MOST_SAID = 500


@dataclass(frozen=True)
class Upload:
    """Which file of the cache a request is about: its SHA-256, its size, from which byte on."""

    sha256: str
    size_bytes: int
    offset_bytes: int = 0


@dataclass(frozen=True)
class Departure:
    """Something that left, or was about to: its line, and that of the answer, if there is one."""

    number: int
    record: Record
    answer: Record | None

    @property
    def what(self) -> str:
        """What it was, in a few words."""
        record = self.record
        if record["event"] == EXPORT:
            return f"{record['what']} {record['file']}"
        named = f"{record['method']} {record['path']}"
        upload = record.get("upload")
        return named if not upload else f"{named} (file {str(upload.get('sha256'))[:12]}…)"

    @property
    def outcome(self) -> str:
        """What came of it, in a few words."""
        answer = self.answer
        if answer is None:
            return "no answer noted"
        if "error" in answer:
            return str(answer["error"])
        if "status" not in answer:
            return "written"
        uid = f" as {answer['uid']}" if "uid" in answer else ""
        said = f": {answer['said']}" if answer.get("said") else ""
        return f"{answer['status']}{uid}{said}"

    @property
    def size_bytes(self) -> int:
        """How many bytes left: of a file that was written, all of it."""
        answer = self.answer or {}
        chosen = answer if self.record["event"] == EXPORT and "status" not in answer else None
        return int((chosen or self.record).get("bytes", 0))

    @property
    def sha256(self) -> str:
        """The SHA-256 of what left; of a file that never became whole, of its description."""
        answer = self.answer or {}
        is_file = self.record["event"] == EXPORT and "sha256" in answer
        return str((answer if is_file else self.record)["sha256"])


class Ledger:
    """What left for one registry, from this `MEDPERF_HOME`.

    Lies in `folder`, and its head beside that. `whose` gives the member who acts, None if that is
    not known; `tell` hears what had to be mended; `agreed` names the others who agreed to a body.
    Any process may write to it at any time.
    """

    def __init__(
        self,
        folder: Path,
        registry: str,
        whose: Callable[[], Record | None],
        tell: Callable[[str], None] = lambda line: None,
        agreed: Callable[[bytes], list[Record]] = lambda body: [],
    ) -> None:
        self._registry, self._whose, self._tell = without_password(registry), whose, tell
        self._agreed = agreed
        self.chain = Chain(folder, folder.with_name(f"{folder.name}.head"), self._beginning)

    def write(
        self, method: str, path: str, body: bytes, key: str | None, upload: Upload | None = None
    ) -> int:
        """Note a request that is about to go; the number of its line.

        `body` is exactly what goes, `key` its idempotency key, `path` begins below `/api/v0`. What
        the request's headers say beside that, such as the member's token, is not noted. Raises
        `Unrecorded`: then it must not go.
        """
        record = {"event": WRITE, **self._who(), "method": method, "path": path}
        record |= {"key": key} if key else {}
        if upload:
            # The file's content is told by its digest; a copy would double what is uploaded.
            about = {"sha256": upload.sha256, "bytes": upload.size_bytes}
            record |= {"upload": {**about, "offset": upload.offset_bytes}}
            record |= _measured(body)
        else:
            agreed = self._agreed(body)
            record |= {**self._body(body), **({"agreed": agreed} if agreed else {})}
        return self._append(record)

    def answered(self, number: int, status: int, body: bytes, document: object, said: str) -> None:
        """Note what the registry answered: status and digest, a UID, its words if it refused.

        Not the answer itself, which may hold what is secret.
        """
        record = {"status": status, **_measured(body)}
        uid = document.get("id") if isinstance(document, dict) else None
        record |= {"uid": uid} if type(uid) is int else {}
        record |= {"said": said[:MOST_SAID]} if said else {}
        self._after(number, record)

    def failed(self, number: int, error: str) -> None:
        """Note that no answer came, or that a file did not become whole, and why."""
        self._after(number, {"error": error[:MOST_SAID]})

    @contextmanager
    def exporting(self, what: str, file: Path, attached: Sequence[Path] = ()) -> Iterator["Export"]:
        """Note a file for others that is written during the block, before any of it is.

        `attached` are documents in it that are kept as they are.
        """
        export = Export(self, what, file, attached)
        try:
            yield export
        except BaseException as error:
            export.failed(str(error) or type(error).__name__)
            raise

    def begun(self, what: str, file: Path, contents: bytes, attached: Sequence[Path]) -> int:
        """Note a file that is about to be written; `contents` is its list of contents, JSON."""
        record = {"event": EXPORT, **self._who(), "what": what, "file": str(file.absolute())}
        record |= self._body(contents)
        with _recorded():
            for document in attached:
                with open(document, "rb") as source:
                    record.setdefault("attached", {})[document.name] = self.chain.keep(source)
        if "attached" in record:
            record[KEPT] = [*record.get(KEPT, []), *record["attached"].values()]
        return self._append(record)

    def sealed(self, number: int, digest: str, size_bytes: int) -> None:
        """Note the SHA-256 and the size of a file that is whole, before it has its name.

        Raises `Unrecorded`: then it must not get it.
        """
        self._append(
            {"event": ANSWER, **_now(), "of": number, "sha256": digest, "bytes": size_bytes}
        )

    def departures(self) -> Iterator[Departure]:
        """All that left, in the order in which it did.

        Lines that say nothing of the kind are left out: `verify` tells if somebody made them so.
        """
        left: dict[int, Record] = {}
        answers: dict[int, Record] = {}
        for line in self.chain.lines():
            form = FORMS.get(str(line.record.get("event")))
            if form is None or not _has(line.record, form):
                continue
            if line.record["event"] != ANSWER:
                left[line.number] = line.record
            elif line.record["of"] in left:
                answers[line.record["of"]] = line.record
        for number, record in left.items():
            yield Departure(number, record, answers.get(number))

    def departure(self, number: int) -> Departure:
        """What left by the line of that number. Raises `UsageError` if there is none."""
        found = next((one for one in self.departures() if one.number == number), None)
        if found is None:
            raise UsageError(f"by line {number} nothing left", hint="See: medperf ledger ls")
        return found

    def body(self, departure: Departure) -> bytes | None:
        """What left, as it did, or the list of contents of a file.

        None for an uploaded file, of which the digest is kept. Raises `MedPerfError` if it is gone.
        """
        record = departure.record
        if "upload" in record:
            return None
        if "body" in record or not record["bytes"]:
            return str(record.get("body", "")).encode("utf-8", "backslashreplace")
        try:
            return self.chain.kept(record["sha256"])
        except NotCached as error:
            raise MedPerfError(
                f"line {departure.number}: {error}", hint="See: medperf ledger verify"
            ) from error

    def verify(self, noted: tuple[int, str] | None = None) -> Verdict:
        """Whether all lines and bodies are as they were written; see `Chain.verify`."""
        return self.chain.verify(noted)

    def _who(self) -> Record:
        member = self._whose()
        who = {name: member.get(name) for name in ("id", "email")} if member else None
        return {**_now(), "registry": self._registry, "member": who}

    def _beginning(self) -> Record:
        began = {"event": BEGAN, **_now(), "format": FORMAT, "ledger": str(uuid.uuid4())}
        return {**began, "registry": self._registry}

    def _body(self, body: bytes) -> Record:
        """How a body is noted: in the line, or beside it."""
        measured = _measured(body)
        if len(body) <= MOST_INLINE_BYTES:
            try:
                return {**measured, "body": body.decode("utf-8")} if body else measured
            except UnicodeDecodeError:
                pass
        with _recorded():
            return {**measured, KEPT: [self.chain.keep(body)]}

    def _append(self, record: Record) -> int:
        with _recorded():
            number, mends = self.chain.append(record)
        for mend in mends:
            self._tell(f"ledger: {mend['mended']}")
        return number

    def _after(self, number: int, record: Record) -> None:
        """What came of something: it has left, so that this cannot be noted is only told."""
        try:
            self._append({"event": ANSWER, **_now(), "of": number, **record})
        except Unrecorded as error:
            self._tell(f"what came of line {number} of the ledger could not be noted: {error}")


class Export:
    """One file that is written for others: noted before its first byte, and before its name."""

    def __init__(self, ledger: Ledger, what: str, file: Path, attached: Sequence[Path]) -> None:
        self._ledger, self._what, self._file = ledger, what, file
        self._attached, self._number = attached, 0

    def begin(self, contents: bytes) -> None:
        """Note what it is going to hold. Raises `Unrecorded`."""
        arguments = (self._what, self._file, contents, self._attached)
        self._number = self._ledger.begun(*arguments)

    def seal(self, digest: str, size_bytes: int) -> None:
        """Note its SHA-256 and size, now that it is whole. Raises `Unrecorded`."""
        self._ledger.sealed(self._number, digest, size_bytes)

    def failed(self, error: str) -> None:
        """Note that it did not become whole, if it was begun."""
        if self._number:
            self._ledger.failed(self._number, error)


def _has(record: Record, form: Mapping[str, Any]) -> bool:
    """Whether a line has fields of such types; those of `MAY_HAVE` may be missing."""
    known = {**{name: kind for name, kind in MAY_HAVE.items() if name in record}, **form}
    return all(isinstance(record.get(name), kind) for name, kind in known.items()) and all(
        isinstance(digest, str) for digest in record.get("attached", {}).values()
    )


def agreed(record: Record) -> str:
    """Who else agreed to what left, by name."""
    named = (one.get("by") for one in record.get("agreed", []) if isinstance(one, dict))
    return ", ".join(str(name) for name in named)


def shown(record: Record) -> dict[str, Any]:
    """A line without what only the chain needs."""
    return {name: value for name, value in record.items() if name not in (NUMBER, PREVIOUS, KEPT)}


@contextmanager
def _recorded() -> Iterator[None]:
    try:
        yield
    except NotWritable as error:
        raise Unrecorded(f"nothing was sent, for the ledger {error}", WRITE_HINT) from error


def _now() -> Record:
    return {"at": datetime.now(timezone.utc).isoformat(timespec="milliseconds")}


def _measured(body: bytes) -> Record:
    return {"bytes": len(body), "sha256": sha256(body).hexdigest()}
