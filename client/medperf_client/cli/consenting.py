"""Releases that take two persons: asked for by one member, reviewed and signed by another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import confirm, site
from medperf_client.cli.disclosing import acting, review
from medperf_client.cli.text import plain, print_entity, print_json, print_table
from medperf_client.errors import HeldBack, MedPerfError, Unsignable, UsageError

if TYPE_CHECKING:
    from medperf_client.consent.requests import Request
    from medperf_client.consent.standing import Standing
    from medperf_client.disclosure.review import Decision, Reviewed

PERSONS = 2


def agreement(
    subject: str, called: str, of: Mapping[str, Any], reviewed: "Reviewed"
) -> "Standing | None":
    """How other members stand to what is to leave, which is asked for if it was not.

    `subject` tells it apart at this site, `of` says what it came of. None where the site's policy
    has one person release. Raises `UsageError` if nobody here can sign.
    """
    from medperf_client.consent.requests import Request

    here = site()
    release = here.policy.release
    if release.persons < PERSONS:
        return None
    here.require_key(f"{release.where}: a release takes two persons, who sign it")
    record = reviewed.record()
    asked = here.requests.ask(
        Request(
            *(subject, called, of, reviewed.document, record["redacted"], record["accepted"]),
            *(acting(), here.me["id"]),
        )
    )
    standing = here.standing(asked)
    if standing.is_approved:
        here.requests.note(asked, standing.verdict)
    return standing


def waiting_words(standing: "Standing") -> str:
    """What keeps a release, and what to do about it; what was not sent stands before it."""
    from medperf_client.evidence.verdict import RETURNED

    uid = standing.request.uid
    if standing.state == RETURNED:
        told = f"returned ({uid}). {'; '.join(standing.why)}"
        return f"{told}. Change what was asked for, or: medperf result review {uid} --withdraw"
    told = f"waits for another member, who finds it with: medperf result review {uid}"
    return "; ".join([told, *standing.why])


def waiting_for(subject: str) -> dict[str, str]:
    """That a release waits for another member, and how it stands; empty if it does not."""
    from medperf_client.consent.requests import PENDING

    request = site().requests.of(subject)
    if request is None or request.state != PENDING:
        return {}
    return {"waits": f"{site().standing(request).state}, {request.uid}"}


def agreed_to(
    subject: str, called: str, of: Mapping[str, Any], reviewed: "Reviewed"
) -> "Standing | None":
    """The same as `agreement`. Raises `HeldBack` while another member did not agree."""
    standing = agreement(subject, called, of, reviewed)
    if standing is not None and not standing.is_approved:
        raise HeldBack(
            f"nothing was sent: {called} {waiting_words(standing)}",
            "Give the same command again once they did. " + site().policy.release.where,
        )
    return standing


def persons() -> dict[str, Any]:
    """What others learn of how many agreed where members are not to be named."""
    number = site().policy.release.persons
    return {"persons": number} if number >= PERSONS else {}


def sent(standing: "Standing | None", entry: str) -> None:
    """Note that what was agreed to is on its way, with an entry of the queue.

    Nobody has to look at it any more.
    """
    from medperf_client.consent.requests import SENT

    if standing is None:
        return
    here = site()
    try:
        here.requests.end(standing.request, SENT, entry)
    except MedPerfError as error:
        # It is on its way all the same.
        here.tell(f"that {standing.request.uid} was sent could not be noted for others: {error}")


def dropped(entries: Sequence[str]) -> None:
    """Note that what was agreed to is not on its way any more: its entries were dropped."""
    from medperf_client.consent.requests import SENT, WITHDRAWN

    here = site()
    try:
        for one in here.requests.mine():
            if one.state == SENT and one.entry in entries:
                here.requests.end(one, WITHDRAWN)
    except MedPerfError as error:
        here.tell(f"that nothing is sent by it could not be noted for others: {error}")


def list_requests(as_json: bool) -> None:
    """List what members of this site ask for, and how it stands as far as one may know."""
    here = site()
    rows: list[dict[str, Any]] = []
    mine = {one.uid: here.standing(one) for one in here.requests.mine()}
    for one in here.requests.shared(here.tell):
        standing = mine.get(one.uid)
        is_mine = standing is not None or _is_by_me(one)
        if standing is not None:
            state, why = standing.state, standing.why
        else:
            state, why = (one.state, []) if is_mine else _as_reviewer(one)
        row = {"id": one.uid, "what": one.called, "by": one.by, "at": one.at, "state": state}
        rows.append({**row, "is_mine": is_mine, "why": why})
    if as_json:
        print_json(rows)
        return
    print_table(
        ("ID", "WHAT", "BY", "AT", "STATE", "WHY"),
        [
            (one["id"], one["what"], one["by"], one["at"][:16], one["state"], "; ".join(one["why"]))
            for one in rows
        ],
    )


def _is_by_me(request: "Request") -> bool:
    """Whether this member asked, from whatever machine; of a copy, so nothing is released by it."""
    me = (site().member or {}).get("id")
    return me is not None and request.member == me


def _as_reviewer(request: "Request") -> tuple[str, list[str]]:
    """How another's request stands, and why: by what one said of it oneself, and nobody else."""
    from medperf_client.consent.requests import PENDING
    from medperf_client.evidence.statement import document_digest
    from medperf_client.evidence.verdict import differs

    if request.state != PENDING:
        return request.state, []
    said = _said_by_me(request)
    try:
        shown = document_digest(request.document), request.of, None
    except MedPerfError:
        # Nobody can have signed for it.
        return request.state, []
    valid = [one["predicate"]["verdict"] for one in said if not differs(one, *shown)]
    if valid:
        return f"{valid[-1]} by you", []
    return request.state, ["it was changed since you decided on it"] if said else []


def _said_by_me(request: "Request") -> list[dict[str, Any]]:
    """What this member said of a request, with any key that was not revoked, oldest first."""
    from medperf_client.consent.standing import own_verdicts
    from medperf_client.kinds.key import KEY

    here = site()
    me = (here.member or {}).get("id")
    known = here.catalog.all(KEY.name)
    mine = [one for one in known if one["owner"] == me and not one.get("revoked_at")]
    keys = {one["keyid"]: one["public_key"] for one in mine}
    # One that the registry did not take yet is on this machine alone.
    new = set(here.keys.ids()) - {one["keyid"] for one in known}
    keys |= {keyid: here.keys.get(keyid).public_key for keyid in new}
    return own_verdicts(request, here.requests.said(request.uid), keys)


def review_request(
    uid: str,
    as_json: bool,
    yes: bool,
    *,
    approve: bool,
    returned: str | None,
    withdraw: bool,
    accept: Sequence[str],
    because: str,
    redact: Sequence[str],
    undo: Sequence[str],
) -> None:
    """Show a request with what is found in it, decide on findings, and give one's verdict."""
    here = site()
    if sum((approve, returned is not None, withdraw)) > 1:
        raise UsageError("--approve, --return and --withdraw are given one at a time")
    request = here.requests.copy(uid)
    own = next((one for one in here.requests.mine() if one.uid == uid), None)
    if withdraw:
        _withdraw(request, own, as_json)
        return
    if own is not None or request.member == here.me["id"]:
        if approve or returned is not None or accept or redact or undo:
            raise UsageError(
                f"{uid} was asked for by you, or from this MEDPERF_HOME: another member of the "
                "site has to agree, from a home of their own",
                hint=f"Take it back with: medperf result review {uid} --withdraw",
            )
        _show_own(request, own, as_json)
        return
    if redact:
        raise UsageError(
            f"{uid} is not yours to change",
            hint=f"Say what is to be left out: medperf result review {uid} --return TEXT",
        )
    document = dict(request.document)
    if not (approve or returned is not None):
        about = {"request": uid, "what": request.called, "by": request.by, "of": request.of}
        if not as_json:
            print_entity(about)
            click.echo()
        review(
            *(request.called, document, False, as_json),
            accept=accept,
            because=because,
            redact=(),
            undo=undo,
            mine_only=True,
            about=about,
            left_out=request.redacted,
        )
        # Where that cannot be noted, it can only be looked at.
        if here.home.is_writable:
            here.requests.saw(request)
        return
    if accept or undo or because:
        raise UsageError("first decide on the findings, then give your verdict")
    _give(request, document, returned, as_json, yes)


def _give(
    request: "Request", document: dict[str, Any], returned: str | None, as_json: bool, yes: bool
) -> None:
    """Sign a verdict on a request, and put it where the member who asked finds it."""
    from medperf_client.consent.requests import PENDING
    from medperf_client.evidence.verdict import APPROVED, RETURNED, sealed_verdict
    from medperf_client.settings.policy import REFUSE

    here = site()
    if request.state != PENDING:
        raise UsageError(f"{request.uid} was {request.state}: nobody has to decide on it any more")
    if returned is not None and not returned.strip():
        raise UsageError("--return takes the reason, in words")
    if not here.requests.has_seen(request):
        raise UsageError(
            f"{request.uid} is not what you were shown, or you did not look at it yet",
            hint=f"Look at it first: medperf result review {request.uid}",
        )
    pair = here.require_key("a verdict is signed")
    _require_signable(request)
    reviewed = here.reviewed(document, decided_by(document))
    if returned is None and reviewed.open and here.policy.findings == REFUSE:
        keys = ", ".join(one.key for one in reviewed.open)
        raise HeldBack(
            f"{request.uid} has findings that you did not decide on: {keys}",
            f"medperf result review {request.uid} --accept KEY --because TEXT, or --return TEXT",
        )
    verdict = APPROVED if returned is None else RETURNED
    confirm(f"{'Approve' if returned is None else 'Return'} {request.called} as it is?", yes)
    said = {"verdict": verdict, "because": returned or "", "by": acting(), "at": _next(request)}
    accepted = reviewed.record()["accepted"]
    envelope = sealed_verdict(document, request.uid, request.of, accepted, said, pair)
    here.requests.say(request.uid, pair.keyid, envelope)
    if as_json:
        print_json({"id": request.uid, "verdict": verdict, "keyid": pair.keyid})
    else:
        click.echo(plain(f"{request.uid} ({request.called}): {verdict}, signed with {pair.keyid}."))


def _next(request: "Request") -> str:
    """When a verdict is given: after all that the member gave before, whatever the clocks say."""
    from datetime import datetime, timedelta, timezone

    from medperf_client.evidence.verdict import given_at

    try:
        earlier = [given_at(one) + timedelta(seconds=1) for one in _said_by_me(request)]
    except OverflowError as error:
        raise MedPerfError(
            f"a verdict of yours on {request.uid} has the last date there is",
            "Nothing is newer: revoke the key that it is signed with: medperf key revoke",
        ) from error
    return max([datetime.now(timezone.utc), *earlier]).isoformat(timespec="seconds")


def _require_signable(request: "Request") -> None:
    """Raise `Unsignable` for a document that nobody can sign a verdict on."""
    from medperf_client.evidence.statement import document_digest

    try:
        document_digest(request.document, request.uid)
    except Unsignable as error:
        raise Unsignable(
            str(error),
            f"It can be neither approved nor returned. Tell {request.by} to leave it out, and to "
            "ask for the rest.",
        ) from error


def _withdraw(request: "Request", own: "Request | None", as_json: bool) -> None:
    from medperf_client.consent.requests import PENDING, WITHDRAWN

    uid, state = request.uid, (own or request).state
    if own is None and not _is_by_me(request):
        raise UsageError(f"{uid} is not yours to withdraw", hint="See: medperf result review")
    if state != PENDING:
        raise UsageError(f"{uid} was {state} before")
    if own is None:
        raise UsageError(
            f"{uid} was not asked for from this MEDPERF_HOME",
            hint="Take it back at the machine where you asked for it.",
        )
    site().requests.end(own, WITHDRAWN)
    shown = {"id": uid, "state": WITHDRAWN}
    print_json(shown) if as_json else click.echo(plain(f"{uid} ({own.called}) is withdrawn."))


def _show_own(request: "Request", own: "Request | None", as_json: bool) -> None:
    standing = site().standing(own) if own else None
    shown = {
        "request": request.uid,
        "what": request.called,
        "state": standing.state if standing else request.state,
        "why": "; ".join(standing.why) if standing else "",
        "of": request.of,
        "document": request.document,
    }
    print_json(shown) if as_json else print_entity(shown)


def decided_by(document: Mapping[str, Any]) -> "tuple[Decision, ...]":
    """What whoever acts decided on a document themselves: a reviewer goes by nobody else's word."""
    me = acting()
    return tuple(one for one in site().clearances.of(document) if one.by == me)


def may_be_told() -> bool:
    """Whether one person may let out what changes by itself, such as how far a preparation is."""
    here = site()
    release = here.policy.release
    if release.persons < PERSONS:
        return True
    here.tell(
        f"the registry is told that it runs, and not how far it is: {release.where}, two persons "
        "release, and nobody can review what changes while it goes"
    )
    return False
