"""What a member of a site says of a release that another one asked for, signed as statements are.

The subject is the document as it is to leave; the predicate says what that came of, which findings
its reviewer accepted, and the verdict. See `statement`.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from medperf_client.errors import MedPerfError
from medperf_client.evidence.keys import Pair
from medperf_client.evidence.statement import RELEASE, keyid_of, opened, sealed

VERDICT_TYPE = "urn:medperf-offline:verdict:v1"
APPROVED, RETURNED = "approved", "returned"
# Findings that were accepted, each with its key, its rule, and why.
Accepted = Sequence[Mapping[str, Any]]


def sealed_verdict(
    document: Any,
    request: str,
    of: Mapping[str, Any],
    accepted: Accepted,
    said: Mapping[str, str],
    pair: Pair,
) -> dict[str, Any]:
    """The envelope of a verdict on a request.

    `said` has the `verdict` itself, why (`because`), and `by` whom it is; and when (`at`), if that
    is not now. Raises `UsageError` for a document that nobody can sign for.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    told = [{name: one[name] for name in ("key", "rule", "because")} for one in accepted]
    predicate = {"at": now, **said, "of": of, "accepted": told}
    return sealed(document, request, predicate, pair, VERDICT_TYPE)


def verdict_of(envelope: Any, pem: str) -> dict[str, Any]:
    """The statement of a verdict that the owner of a public key signed; see `statement.opened`."""
    statement = opened(envelope, pem, VERDICT_TYPE)
    said = statement.get("predicate")
    if not isinstance(said, dict) or said.get("verdict") not in (APPROVED, RETURNED):
        raise MedPerfError("what was signed says neither approved nor returned")
    return statement


def given_at(statement: Mapping[str, Any]) -> datetime:
    """When a verdict was given, by the clock of whoever signed it."""
    try:
        given = datetime.fromisoformat(statement["predicate"]["at"])
        if given.tzinfo is None:
            raise ValueError("a time without a zone")
        return given.astimezone(timezone.utc)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MedPerfError("what was signed does not say when") from error


def said_by(envelope: Any) -> str:
    """Whom a verdict says it is by; nothing is verified."""
    try:
        return str(json.loads(base64.b64decode(envelope["payload"]))["predicate"]["by"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MedPerfError(f"it is no verdict: {error!r}") from error


def reviewers(envelope: Any) -> list[str]:
    """The `keyid`s of those who agreed to what a statement says; nothing is verified.

    Empty where nobody had to, and for what cannot be read.
    """
    try:
        predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
        return [keyid_of(one) for one in predicate[RELEASE]["verdicts"]]
    except (KeyError, TypeError, ValueError, RecursionError, MedPerfError):
        return []


def differs(
    statement: Mapping[str, Any], digest: str, of: Mapping[str, Any], accepted: Accepted | None
) -> str:
    """In what a verdict is on something else than on what is to leave; empty if in nothing.

    Which findings it accepts does not matter where `accepted` is None.
    """
    said = statement["predicate"]
    if statement["subject"][0]["digest"].get("sha256") != digest:
        return "it is on other figures"
    if without_uids(said.get("of")) != without_uids(of):
        return "it is on what came of something else"
    if accepted is not None and pairs(said.get("accepted")) != pairs(accepted):
        return "it accepts other findings"
    return ""


def pairs(accepted: Any) -> set[tuple[str, str]] | None:
    """Which findings were accepted: their keys and rules; None for what are none."""
    try:
        return {(str(one["key"]), str(one["rule"])) for one in accepted}
    except (TypeError, KeyError):
        return None


def without_uids(of: Any) -> Any:
    """What something is of, by hashes and names alone: a UID may come while it waits."""
    if isinstance(of, dict):
        return {name: without_uids(one) for name, one in of.items() if name != "uid"}
    return of
