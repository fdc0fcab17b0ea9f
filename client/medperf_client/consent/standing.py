"""How a request stands, by what other members say of it: who counts, and what they agreed to."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from medperf_client.consent.requests import PENDING, Request, Said
from medperf_client.errors import MedPerfError
from medperf_client.evidence.statement import document_digest, keyid_of
from medperf_client.evidence.verdict import APPROVED, RETURNED, differs, verdict_of
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

    One member who returns it outweighs all who approve.
    """
    if request.state != PENDING:
        return Standing(request, request.state)
    approved: Said | None = None
    returned: list[str] = []
    void: list[str] = []
    for one in said:
        try:
            why = _returned(request, _counted(request, one, key, reviewers))
        except MedPerfError as error:
            void.append(f"the verdict {one.file} does not count: {error}")
            continue
        if why:
            returned.append(why)
        else:
            approved = approved or one
    if returned:
        return Standing(request, RETURNED, [*returned, *void])
    if approved:
        return Standing(request, APPROVED, void, approved.envelope)
    return Standing(request, PENDING, void)


def _counted(
    request: Request, said: Said, key: Key, reviewers: Collection[int] | None
) -> dict[str, Any]:
    """The statement of a verdict on this very request. Raises `MedPerfError` for what is none."""
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
    return statement


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
