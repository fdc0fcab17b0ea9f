"""Verify anybody's result: what was signed, against the result and what it is said to be of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medperf_client.errors import MedPerfError
from medperf_client.evidence.statement import ROLES, content_of, document_digest, opened
from medperf_client.kinds.form import Entity
from medperf_client.kinds.result import said_of

# An entity of a kind by its UID, if it is known here.
Known = Callable[[str, Any], Entity | None]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `holds` is None where it cannot be told here."""

    what: str
    holds: bool | None
    why: str


def verified(result: Entity, envelope: Any, pem: str, known: Known) -> list[Check]:
    """Everything that a signed statement says of a result, checked with one public key.

    Nobody's word is taken for what is compared with entities that are here.
    """
    try:
        statement = opened(envelope, pem)
    except MedPerfError as error:
        return [Check("signature", False, str(error))]
    return [Check("signature", True, "the key signed it"), *_compared(statement, result, known)]


def _compared(statement: Mapping[str, Any], result: Entity, known: Known) -> Iterator[Check]:
    signed = statement["subject"][0]["digest"].get("sha256")
    same = signed == document_digest(result["results"])
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
