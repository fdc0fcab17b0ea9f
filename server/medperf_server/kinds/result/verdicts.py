"""Who else of a site agreed to a release: verdicts that its statement carries, each signed.

A verdict is an in-toto Statement v1 of its own. See docs/evidence.md.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from medperf_server.base import db
from medperf_server.callers import Caller
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.result.envelopes import FIELD, opened, signer
from medperf_server.policy import refuse

# Where the predicate of a statement has them.
RELEASE, VERDICTS = "release", "verdicts"
VERDICT_TYPE = "urn:medperf-offline:verdict:v1"
APPROVED = "approved"
# What a verdict and a statement say alike of what a result came of.
OF = ("benchmark", "model", "dataset", "partial")
# More than any site has who look at one result.
MOST = 10


def require_verdicts(caller: Caller, statement: Mapping[str, Any]) -> None:
    """Each verdict in a statement is of another member, and agrees to what the statement is of.

    One that is not is refused, and a statement of a release that says no more than that there was
    one. Where one person released there is none.
    """
    release = statement["predicate"].get(RELEASE)
    if release is None:
        return
    verdicts = release.get(VERDICTS) if isinstance(release, dict) else None
    if not isinstance(verdicts, list) or not 0 < len(verdicts) <= MOST:
        refuse(f"Its release has no list of one to {MOST} verdicts", FIELD)
    for envelope in verdicts:
        _require_agreement(caller, statement, envelope)


def _require_agreement(caller: Caller, statement: Mapping[str, Any], envelope: Any) -> None:
    keyid = signer(envelope)
    key = db.session.scalar(select(Key).where(Key.keyid == keyid))
    if key is None:
        refuse(f"A verdict is signed with {keyid!r}, which is no key of any member here", FIELD)
    if key.owner == caller.id:
        refuse(f"A verdict is signed with {keyid}, a key of yours: another has to agree", FIELD)
    verdict = opened(envelope, key, VERDICT_TYPE)
    said, predicate = verdict.get("predicate"), statement["predicate"]
    if not isinstance(said, dict) or said.get("verdict") != APPROVED:
        refuse(f"The verdict that is signed with {keyid} does not approve the release", FIELD)
    digests = [one["subject"][0]["digest"].get("sha256") for one in (verdict, statement)]
    if digests[0] != digests[1]:
        _is_other(keyid, "the results")
    of = said.get("of")
    for name in OF:
        found = of.get(name) if isinstance(of, dict) else None
        if _without_uid(found) != _without_uid(predicate.get(name)):
            _is_other(keyid, f"the {name}")
    disclosure = predicate.get("disclosure")
    accepted = disclosure.get("accepted") if isinstance(disclosure, dict) else None
    if _pairs(said.get("accepted")) != _pairs(accepted):
        _is_other(keyid, "the findings that were accepted")


def reviewers(metadata: Mapping[str, Any]) -> Sequence[Key]:
    """The keys of those who agreed to a result that is here, by its metadata.

    Its verdicts were verified when it came, and do not change.
    """
    try:
        payload = json.loads(base64.b64decode(metadata[FIELD]["payload"]))
        envelopes = payload["predicate"][RELEASE][VERDICTS]
        keyids = [str(one["signatures"][0]["keyid"]) for one in envelopes]
    except (KeyError, TypeError, ValueError, IndexError, RecursionError):
        return []
    return db.session.scalars(select(Key).where(Key.keyid.in_(keyids)).order_by(Key.id)).all()


def _without_uid(of: Any) -> Any:
    """By hashes and names alone: a UID may have come after one of the two was signed."""
    return {key: one for key, one in of.items() if key != "uid"} if isinstance(of, dict) else of


def _pairs(accepted: Any) -> set[tuple[str, str]]:
    found = accepted if isinstance(accepted, list) else []
    return {(str(one.get("key")), str(one.get("rule"))) for one in found if isinstance(one, dict)}


def _is_other(keyid: str, what: str) -> None:
    refuse(f"The verdict that is signed with {keyid} is on other than this: {what}", FIELD)
