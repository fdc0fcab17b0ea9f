"""Verify anybody's result: what was signed, against the result and what it is said to be of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medperf_client.errors import MedPerfError, Unsignable
from medperf_client.evidence.statement import (
    RELEASE,
    ROLES,
    content_of,
    document_digest,
    keyid_of,
    opened,
)
from medperf_client.evidence.verdict import APPROVED, differs, verdict_of
from medperf_client.kinds.form import Entity
from medperf_client.kinds.result import said_of

# An entity of a kind by its UID, if it is known here.
Known = Callable[[str, Any], Entity | None]
# A public key by its `keyid`.
Key = Callable[[str], Entity | None]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `holds` is None where it cannot be told here."""

    what: str
    holds: bool | None
    why: str


def verified(
    result: Entity, envelope: Any, pem: str, known: Known, key: Key = lambda keyid: None
) -> list[Check]:
    """Everything that a signed statement says of a result, checked with one public key.

    Those who agreed to it are known by `key`. Nobody's word is taken for what is compared with
    entities that are here.
    """
    try:
        statement = opened(envelope, pem)
    except MedPerfError as error:
        return [Check("signature", False, str(error))]
    checks = [Check("signature", True, "the key signed it")]
    checks += _agreed(statement, keyid_of(envelope), key)
    return [*checks, *_compared(statement, result, known)]


def _agreed(statement: Mapping[str, Any], signer: str, key: Key) -> Iterator[Check]:
    """Whether those agreed to a release whom its statement names, to this very one."""
    release = statement["predicate"].get(RELEASE)
    if release is None:
        return
    verdicts = release.get("verdicts") if isinstance(release, dict) else None
    if not isinstance(verdicts, list) or not verdicts:
        yield Check("agreed", False, "two persons released it, and there is no verdict of another")
        return
    for verdict in verdicts:
        yield _verdict(statement, signer, verdict, key)


def _verdict(statement: Mapping[str, Any], signer: str, verdict: Any, key: Key) -> Check:
    try:
        keyid = keyid_of(verdict)
        known, first = key(keyid), key(signer) or {}
        if keyid == signer or (known and known.get("owner", 0) == first.get("owner", 1)):
            return Check("agreed", False, "who signed it is also the one who agreed")
        if known is None:
            return Check("agreed", None, f"the key {keyid} is not here to verify it with")
        said = verdict_of(verdict, known["public_key"])
    except MedPerfError as error:
        return Check("agreed", False, str(error))
    predicate = statement["predicate"]
    signed = statement["subject"][0]["digest"].get("sha256")
    accepted = (predicate.get("disclosure") or {}).get("accepted")
    of = {name: predicate.get(name) for name in ("benchmark", "model", "dataset", "partial")}
    other = differs(said, signed, of, accepted)
    if other or said["predicate"]["verdict"] != APPROVED:
        return Check("agreed", False, other or "they did not approve it")
    revoked = known.get("revoked_at")
    since = f", a key that is revoked since {str(revoked)[:16]}" if revoked else ""
    by = said["predicate"].get("by")
    return Check("agreed", True, f"{by} agreed to the same, with {keyid}{since}")


def _compared(statement: Mapping[str, Any], result: Entity, known: Known) -> Iterator[Check]:
    signed = statement["subject"][0]["digest"].get("sha256")
    try:
        same = signed == document_digest(result["results"])
    except Unsignable:
        # So they are not what was signed.
        same = False
    yield Check("results", same, "as signed" if same else "changed since they were signed")
    said = statement["predicate"]
    partial = bool(said_of(result).get("partial", False))
    yield _same("partial", said.get("partial"), partial)
    benchmark = known("benchmark", result["benchmark"])
    yield _agrees("benchmark", said, benchmark and {"name": benchmark["name"]})
    dataset = known("dataset", result["dataset"])
    yield _agrees("dataset", said, dataset and {"generated_uid": dataset["generated_uid"]})
    containers = {"model": result["model"]}
    containers |= {role: (benchmark or {}).get(column) for role, column in ROLES.items()}
    for role, uid in containers.items():
        container = known("mlcube", uid)
        yield _agrees(role, said, container and content_of(container))


def _agrees(what: str, said: Mapping[str, Any], here: Mapping[str, Any] | None) -> Check:
    """Whether a statement says of something what is known of it here."""
    if here is None:
        return Check(what, None, "not here to compare with")
    found = said.get(what)
    for field, value in here.items():
        one = found.get(field) if isinstance(found, dict) else None
        if one != value:
            return Check(what, False, f"{field} is {one!r} in what was signed, {value!r} here")
    return Check(what, True, "the same as here")


def _same(what: str, said: Any, here: Any) -> Check:
    agrees = said is here
    return Check(what, agrees, "as signed" if agrees else f"{said} in what was signed, {here} here")
