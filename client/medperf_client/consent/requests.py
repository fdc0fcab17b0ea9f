"""Releases that wait for another member: what is asked for, and what they say of it, as files.

Who asks keeps the request in their own home. A copy lies in a folder that the members of the site
share, where the others put their verdicts. Nothing there is believed: whoever changes a copy gets a
verdict on something else, and verdicts are signed.
"""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medperf_cache.errors import NotWritable
from medperf_cache.locks import hold
from medperf_cache.packing import named, replacing
from medperf_client.disclosure.documents import digest
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.evidence.statement import keyid_of
from medperf_client.evidence.verdict import pairs, said_by, without_uids
from medperf_client.files import is_absent, read_versioned, versioned, write_atomically

FORMAT = 1
# Of a request at the site that made it; what others say of it makes it more, see `standing`.
PENDING, WITHDRAWN, SENT = "pending", "withdrawn", "sent"
REQUEST = "request.json"
# Where several members write, each a user of their own: folders and files are those of their group.
GROUP_FOLDER, GROUP_FILE = 0o2770, 0o660
UID = re.compile("r[0-9a-f]{12}")
_SHARED_HINT = "It is where members of the site find what waits for them: releases_folder."


@dataclass(frozen=True)
class Request:
    """What a member, `by` name and by UID, wants to release.

    `subject` tells it apart at their site, `called` is what they call it, and `of` says what it
    came of. The `document` is as it is to leave, without what was `redacted`. Others learn what the
    member `accepted` once it was sent. `verdict` is the envelope of who agreed, once it was looked
    at and counted, `entry` the UID of the queue's entry that sends it.
    """

    subject: str
    called: str
    of: Mapping[str, Any]
    document: Mapping[str, Any]
    redacted: list[str]
    accepted: list[dict[str, Any]]
    by: str
    member: int | None
    uid: str = ""
    at: str = ""
    state: str = PENDING
    entry: str = ""
    verdict: Any = None

    def is_same(self, other: "Request") -> bool:
        """Whether it asks for the same: what is agreed to one is agreed to the other."""
        return (
            (self.document, self.redacted) == (other.document, other.redacted)
            and without_uids(self.of) == without_uids(other.of)
            and pairs(self.accepted) == pairs(other.accepted)
        )


@dataclass(frozen=True)
class Said:
    """A file in which somebody says something of a request; `envelope` is None if it is no JSON."""

    file: Path
    envelope: Any = field(repr=False)


class Requests:
    """The requests of a member, below a folder of their `own`, and those of all in a `shared` one.

    Processes of one member do not meet: who asks or ends holds a lock. Of two members who write to
    the shared folder each has files of their own there. It is made, but for the `named` folder that
    it lies in: one that is not there is no share that is mounted.
    """

    def __init__(self, own: Path, shared: Path, named: Path | None = None) -> None:
        self._own, self._shared, self._named = own, shared, named

    def ask(self, wanted: Request) -> Request:
        """The request for a subject. It is made anew unless the last one asks for the same.

        Whoever is cut off finds it again, and makes the copy that is missing.
        """
        self._require_shared()
        with self._alone():
            known = self.of(wanted.subject)
            if known is None or known.state != PENDING or not known.is_same(wanted):
                if known is not None and known.state == PENDING:
                    self._share(replace(known, state=WITHDRAWN))
                now = datetime.now(timezone.utc).isoformat(timespec="seconds")
                known = replace(wanted, uid=f"r{secrets.token_hex(6)}", at=now)
                self._keep(known)
            self._share(known)
            return known

    def of(self, subject: str) -> Request | None:
        """The member's own request for a subject, if there is one."""
        file = self._file(subject)
        return None if is_absent(file) else _read(file)

    def mine(self) -> list[Request]:
        """The member's own, oldest first."""
        found = [_read(file) for file in self._own.glob("*.json")]
        return sorted(found, key=lambda one: (one.at, one.uid))

    def shared(self, tell: Callable[[str], None] = lambda line: None) -> list[Request]:
        """Those of all members, oldest first; of what cannot be read it is told why."""
        self._require_shared()
        found = []
        for file in self._shared.glob(f"*/{REQUEST}"):
            try:
                found.append(self.copy(file.parent.name))
            except MedPerfError as error:
                tell(str(error))
        return sorted(found, key=lambda one: (one.at, one.uid))

    def copy(self, uid: str) -> Request:
        """A request as it lies in the shared folder. Raises `UsageError` if there is none."""
        self._require_shared()
        file = self._shared / uid / REQUEST
        if not UID.fullmatch(uid) or not file.exists():
            raise UsageError(
                f"nobody asks for a release {uid!r} in {self._shared}",
                hint="See: medperf result review. Members of a site share the folder that "
                "releases_folder of their profiles names.",
            )
        found = _read(file)
        if found.uid != uid:
            raise MedPerfError(f"the request {file} is not the one of its folder", _HINT)
        return found

    def end(self, request: Request, state: str, entry: str = "") -> None:
        """Have a request stand no more, because it was withdrawn, or sent with a queue's entry."""
        with self._alone():
            known = self.of(request.subject)
            if known is not None and known.uid == request.uid:
                request = known
                self._keep(replace(request, state=state, entry=entry))
            self._share(replace(request, state=state))

    def note(self, request: Request, verdict: Any) -> None:
        """Keep the verdict that counted, before anything is sent by it."""
        with self._alone():
            self._keep(replace(request, verdict=verdict))

    def agreed_to(self, told: set[str]) -> list[dict[str, Any]]:
        """Who agreed to documents with these digests, by name and by key; nobody if none had to.

        What cannot be read names nobody.
        """
        named = {}
        for file in self._own.glob("*.json") if told else ():
            with suppress(MedPerfError):
                one = _read(file)
                if one.verdict is not None and digest(one.document) in told:
                    keyid = keyid_of(one.verdict)
                    named[keyid] = {"by": said_by(one.verdict), "keyid": keyid, "request": one.uid}
        return list(named.values())

    def saw(self, request: Request) -> None:
        """Note that the member was shown another's request, as it is now."""
        with self._alone():
            write_atomically(self._seen(request), _shown(request))

    def has_seen(self, request: Request) -> bool:
        """Whether a request is what the member was shown last: others can change the copy."""
        file = self._seen(request)
        return file.exists() and file.read_text(encoding="utf-8") == _shown(request)

    def say(self, uid: str, keyid: str, envelope: Mapping[str, Any]) -> None:
        """Put a signed verdict where the member who asked finds it, in place of an earlier one."""
        _put(self._shared / uid / f"{keyid}.json", json.dumps(envelope))

    def said(self, uid: str) -> Iterator[Said]:
        """What others say of a request, by the names of their files."""
        for file in sorted((self._shared / uid).glob("*.json")):
            if file.name == REQUEST:
                continue
            try:
                yield Said(file, json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError, RecursionError):
                yield Said(file, None)

    def _require_shared(self) -> None:
        """Raise `MedPerfError` for a folder that others could not find, or that one cannot see."""
        for folder in (self._named, self._shared):
            try:
                if folder is None or (folder == self._shared and is_absent(folder)):
                    continue
                with os.scandir(folder):
                    pass
            except OSError as error:
                raise MedPerfError(
                    f"the folder of releases {folder} cannot be read: {error.strerror}",
                    f"{_SHARED_HINT} Is it mounted, and spelled as there? medperf profile view",
                ) from error

    def _alone(self) -> Any:
        return hold(self._own / "lock", "another medperf process asks for a release")

    def _file(self, subject: str) -> Path:
        return self._own / f"{subject}.json"

    def _seen(self, request: Request) -> Path:
        return self._own / f"{request.uid}.seen"

    def _keep(self, request: Request) -> None:
        write_atomically(self._file(request.subject), versioned(FORMAT, asdict(request)))

    def _share(self, request: Request) -> None:
        """Have others see a request; what was accepted only once they need not decide on it."""
        shown = request if request.state == SENT else replace(request, accepted=[], verdict=None)
        self._require_shared()
        folder = self._shared / request.uid
        try:
            if self._named is None:
                self._shared.parent.mkdir(parents=True, exist_ok=True)
            for one in (self._shared, folder):
                if not one.is_dir():
                    one.mkdir(exist_ok=True)
                    _let_group(one, GROUP_FOLDER)
        except OSError as error:
            raise MedPerfError(
                f"{folder} cannot be made: {error.strerror}", _SHARED_HINT
            ) from error
        _put(folder / REQUEST, versioned(FORMAT, asdict(shown)))


def _put(file: Path, text: str) -> None:
    """Replace a file of the shared folder, whole or not at all."""
    try:
        with replacing(file) as new, named(file), open(new, "w", encoding="utf-8") as out:
            _let_group(new, GROUP_FILE)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
    except NotWritable as error:
        raise MedPerfError(str(error)) from error


def _let_group(path: Path, mode: int) -> None:
    # What a stick is formatted with may know no modes.
    with suppress(OSError):
        path.chmod(mode)


def _shown(request: Request) -> str:
    """The digest of what others are shown of a request."""
    return digest([request.called, request.of, request.document, request.redacted])


def told_digests(body: bytes | Mapping[str, Any]) -> set[str]:
    """The digests of documents that a body says were checked; see `disclosure.review`."""
    try:
        said = json.loads(body) if isinstance(body, bytes) else body
        parts = [one for one in said.values() if isinstance(one, dict)]
    except (ValueError, AttributeError, RecursionError):
        return set()
    checked = [one["disclosure"] for one in parts if isinstance(one.get("disclosure"), dict)]
    return {str(one.get("digest")) for one in checked}


# Of a file that any member may have written.
_TYPES: dict[type, tuple[str, ...]] = {
    str: ("subject", "called", "by", "uid", "at", "state"),
    dict: ("of", "document"),
    list: ("redacted", "accepted"),
}
_HINT = "Nothing is released by it. Delete it, and ask again with: medperf result submit"


def _read(file: Path) -> Request:
    try:
        found = Request(**read_versioned(FORMAT, file))
        for kind, names in _TYPES.items():
            wrong = [name for name in names if not isinstance(getattr(found, name), kind)]
            if wrong:
                raise ValueError(f"its {wrong[0]} is {getattr(found, wrong[0])!r:.40}")
        return found
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise MedPerfError(f"the request {file} cannot be read: {error}", _HINT) from error
