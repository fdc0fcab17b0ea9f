"""How a request stands, by what other members say of it: who counts, and what they agreed to."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from medperf_client.consent.requests import PENDING, Request, Said
from medperf_client.errors import MedPerfError
from medperf_client.evidence.statement import document_digest, keyid_of
from medperf_client.evidence.verdict import APPROVED, RETURNED, differs, given_at, verdict_of
from medperf_client.kinds.form import Entity

# A registered public key by its `keyid`.
Key = Callable[[str], Entity | None]


@dataclass(frozen=True)
class Standing:
    """The `state` of a request: pending, approved, returned, or as its member ended it.

    `why` says in words who returned it and for what, and which verdicts do not count. What was
    approved has the `verdict` that counts, an envelope.
    """

    request: Request
    state: str
    why: list[str] = field(default_factory=list)
    verdict: Any = None

    @property
    def is_approved(self) -> bool:
        """Whether it may be sent."""
        return self.state == APPROVED


def standing_of(
    request: Request, said: Iterable[Said], key: Key, reviewers: Collection[int] | None
) -> Standing:
    """How a request of one's own stands; `reviewers` are the members who count, None for all.

    Of one member's verdicts, whichever keys they are signed with, the newest counts; of two of the
    same time the one that returns it. One member who returns it outweighs all who approve.
    """
    if request.state != PENDING:
        return Standing(request, request.state)
    newest: dict[int, tuple[tuple[datetime, bool], str, Said]] = {}
    void: list[str] = []
    for one in said:
        try:
            member, statement = _counted(request, one, key, reviewers)
            given = given_at(statement)
        except MedPerfError as error:
            void.append(f"the verdict {one.file} does not count: {error}")
            continue
        why = _returned(request, statement)
        order = given, bool(why)
        if member not in newest or order > newest[member][0]:
            newest[member] = order, why, one
    returned = [why for _, why, _ in newest.values() if why]
    if returned:
        return Standing(request, RETURNED, [*returned, *void])
    if newest:
        _, _, approved = next(iter(newest.values()))
        return Standing(request, APPROVED, void, approved.envelope)
    return Standing(request, PENDING, void)


def own_verdicts(
    request: Request, said: Iterable[Said], keys: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What a member said of another's request, oldest first; `keys` are theirs, in PEM by `keyid`.

    Each is on what the request was at that time.
    """
    found = []
    for one in said:
        with suppress(MedPerfError):
            keyid = keyid_of(one.envelope)
            statement = verdict_of(one.envelope, keys[keyid]) if keyid in keys else None
            if statement and statement["subject"][0].get("name") == request.uid:
                found.append((given_at(statement), statement))
    return [statement for _, statement in sorted(found, key=lambda each: each[0])]


def _counted(
    request: Request, said: Said, key: Key, reviewers: Collection[int] | None
) -> tuple[int, dict[str, Any]]:
    """Whose verdict it is, and its statement, on this very request.

    Raises `MedPerfError` for what is none.
    """
    if said.envelope is None:
        raise MedPerfError("it is no JSON")
    keyid = keyid_of(said.envelope)
    known = key(keyid)
    if known is None:
        raise MedPerfError(f"it is signed with {keyid}, a key that nobody registered; medperf sync")
    if known.get("revoked_at"):
        day = str(known["revoked_at"])[:10]
        raise MedPerfError(f"it is signed with {keyid}, which was revoked on {day}")
    if known["owner"] == request.member:
        raise MedPerfError("it is by the member who asked: another one has to agree")
    if reviewers is not None and known["owner"] not in reviewers:
        raise MedPerfError(f"member {known['owner']} is none of the policy's release.reviewers")
    statement = verdict_of(said.envelope, known["public_key"])
    if statement["subject"][0].get("name") != request.uid:
        raise MedPerfError(f"it is on another request, {statement['subject'][0].get('name')}")
    other = differs(statement, document_digest(request.document), request.of, None)
    if other:
        raise MedPerfError(other)
    return known["owner"], statement


def _returned(request: Request, statement: dict[str, Any]) -> str:
    """Who returned it, and why; empty if they agree to all that is to be sent."""
    said = statement["predicate"]
    by = str(said.get("by") or "another member")
    if said["verdict"] == RETURNED:
        return f"{by}: {said.get('because', '')}"
    other = differs(statement, document_digest(request.document), request.of, request.accepted)
    return f"{by} approves, but {other}: {_keys(said.get('accepted'))}" if other else ""


def _keys(accepted: Any) -> str:
    """The findings of a verdict, for who accepted others."""
    named = [
        f"{one.get('key')} ({one.get('rule')})" for one in accepted or [] if isinstance(one, dict)
    ]
    return ", ".join(named) or "none"
