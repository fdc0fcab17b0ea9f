"""What a site signed of a result: an in-toto Statement v1 in a DSSE envelope.

Its subject is the results document, by the SHA-256 of its canonical JSON (RFC 8785); its predicate
says what made it. See docs/evidence.md, https://github.com/in-toto/attestation and
https://github.com/secure-systems-lab/dsse.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import select

from medperf_server.base import db
from medperf_server.callers import Caller
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.container.table import CONTENT, Container
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.result.envelopes import FIELD, opened, signer
from medperf_server.kinds.result.table import Result
from medperf_server.kinds.result.verdicts import require_verdicts
from medperf_server.policy import Values, refuse

PREDICATE_TYPE = "urn:medperf-offline:result:v1"
# What the predicate calls a benchmark's containers.
ROLES = {"preparation": "data_preparation_mlcube", "evaluator": "data_evaluator_mlcube"}


def signer_of(caller: Caller, values: Values, benchmark: Benchmark) -> str:
    """The `keyid` of the key that signed a new result, and empty if nobody did.

    What is signed has to be of this result, by a key of the caller's: else it is refused.
    """
    envelope = values.get("metadata_", {}).get(FIELD)
    if envelope is None:
        return ""
    statement, keyid = _verified(caller, envelope)
    said = statement["predicate"]
    digest = statement["subject"][0]["digest"].get("sha256")
    if digest != document_digest(values["results"]):
        _contradicts("the results", "they were changed after they were signed")
    model = db.session.get_one(Container, values["model"])
    _require_same("model", said, _content(model))
    for role, column in ROLES.items():
        container = db.session.get_one(Container, getattr(benchmark, column))
        _require_same(role, said, _content(container))
    dataset = db.session.get_one(Dataset, values["dataset"])
    _require_same("dataset", said, {"generated_uid": dataset.generated_uid})
    _require_same("benchmark", said, {"name": benchmark.name})
    if said.get("partial") is not values["metadata_"].get("partial", False):
        _contradicts("whether it is partial", f"it says {said.get('partial')}")
    require_verdicts(caller, statement)
    _require_new(values, envelope)
    return keyid


def document_digest(results: Any) -> str:
    """The SHA-256 of a document's canonical JSON (RFC 8785)."""
    import rfc8785

    try:
        return sha256(rfc8785.dumps(results)).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        refuse(f"The results cannot be signed for: {error}", "results")


def _verified(caller: Caller, envelope: Any) -> tuple[dict[str, Any], str]:
    """The statement in an envelope, and the key of the caller's that it is signed by."""
    keyid = signer(envelope)
    key = db.session.scalar(select(Key).where(Key.keyid == keyid, Key.owner == caller.id))
    if key is None:
        refuse(f"It is signed with {keyid!r}, which is no key of yours here: register it", FIELD)
    return opened(envelope, key, PREDICATE_TYPE), keyid


def _content(container: Container) -> dict[str, str]:
    return {field: getattr(container, field) for field in CONTENT if getattr(container, field)}


def _require_same(name: str, said: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """What a statement says of something is what the registry has of it."""
    found = said.get(name)
    for field, value in here.items():
        wrong = found.get(field) if isinstance(found, dict) else found
        if wrong != value:
            _contradicts(f"the {name}", f"{field} is {wrong!r} there and {value!r} here")


def _require_new(values: Values, envelope: Mapping[str, Any]) -> None:
    """A statement is of one result: what was sent in before is not sent in again."""
    of = (getattr(Result, field) == values[field] for field in ("benchmark", "model", "dataset"))
    for metadata in db.session.scalars(select(Result.metadata_).where(*of)):
        known = metadata.get(FIELD) or {}
        if known.get("payload") == envelope["payload"]:
            refuse("A result with this statement is here already", FIELD)


def _contradicts(what: str, how: str) -> None:
    refuse(f"The statement contradicts {what}: {how}", FIELD)
