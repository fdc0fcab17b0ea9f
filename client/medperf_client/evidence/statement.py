"""What a site says of one result: an in-toto Statement v1 in a DSSE envelope.

The subject is the results document, by the SHA-256 of its canonical JSON (RFC 8785). The predicate
says by their hashes what made it. See https://github.com/in-toto/attestation and
https://github.com/secure-systems-lab/dsse.
"""

import binascii
import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from medperf_client.disclosure.documents import Node, tree
from medperf_client.errors import MedPerfError, Unsignable
from medperf_client.evidence.keys import Pair, public_key
from medperf_client.kinds.container import PINS
from medperf_client.kinds.form import Entity

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:medperf-offline:result:v1"
# What the predicate calls a benchmark's containers.
ROLES = {"preparation": "data_preparation_mlcube", "evaluator": "data_evaluator_mlcube"}
# Where the predicate says who agreed to the release, if it took more than one person.
RELEASE = "release"
OF_A_STEP = (
    *("step", "model", "container", "source", "signed_by", "seconds", "image_id"),
    *("failed", "engine", "parts", "inputs", "outputs"),
)
ASK_AGAIN = "Ask the site for its result again."


def canonical(results: Any, name: str = "UID") -> bytes:
    """A document's canonical JSON (RFC 8785); `name` is what people know the result by.

    Raises `Unsignable` for one that has none, and names the keys at fault: of a whole number beyond
    2^53 - 1 it is not defined.
    """
    import rfc8785

    try:
        return bytes(rfc8785.dumps(results))
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        found = list(_without_form(results))
        keys = ", ".join(f"{one.key} is {one.value!r}" for one in found)
        redact = " ".join(f"--redact {shlex.quote(one.key)}" for one in found)
        raise Unsignable(
            f"the results of {name} cannot be signed: {keys or error}; a signature is of numbers "
            "that floating point holds, whole ones up to 2^53 - 1 (RFC 8785)",
            f"Leave it out with: medperf result review {name} {redact or '--redact KEY'}. Or run "
            "and release it on a machine without a key, unsigned.",
        ) from error


def document_digest(results: Any, name: str = "UID") -> str:
    """The SHA-256 of a document's canonical JSON. Raises `Unsignable` as `canonical` does."""
    return sha256(canonical(results, name)).hexdigest()


def _without_form(results: Any) -> Iterator[Node]:
    """The values of a document that have no canonical form."""
    import rfc8785

    for node in tree(results).leaves():
        try:
            rfc8785.dumps(node.value)
        except (rfc8785.CanonicalizationError, UnicodeError):
            yield node


def predicate_of(
    made: Mapping[str, Any],
    of: Mapping[str, Any],
    containers: Mapping[str, Entity],
) -> dict[str, Any]:
    """What made a result.

    `made` is the result as this site keeps it, with what its disclosure check found; `of` says what
    it came of, see `of_result`; `containers` are the benchmark's, by `ROLES`. Each step tells which
    engine ran it, where that was noted then: what answers here now may be another one.
    """
    return {
        **of,
        **{role: _container(one) for role, one in containers.items()},
        "disclosure": made["disclosure"],
        "made_of": made["made_of"],
        "steps": [
            {field: step[field] for field in OF_A_STEP if field in step} for step in made["steps"]
        ],
        "software": {"name": "medperf-offline", "version": version("medperf-offline")},
        "ran_at": made["created_at"],
        "released_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def of_result(
    benchmark: Entity, model: Entity, dataset: Entity, is_partial: bool
) -> dict[str, Any]:
    """What a result came of. UIDs are the registry's where it has given them: hashes count."""
    return {
        "benchmark": _named(benchmark),
        "model": _container(model),
        "dataset": {**_uid(dataset), "generated_uid": dataset["generated_uid"]},
        "partial": is_partial,
    }


def content_of(container: Entity) -> dict[str, str]:
    """The hashes that pin a container."""
    return {name: container[name] for name in PINS if container.get(name)}


def sealed(
    results: Any,
    name: str,
    predicate: Mapping[str, Any],
    pair: Pair,
    kind: str = PREDICATE_TYPE,
) -> dict[str, Any]:
    """The signed statement that a predicate of a `kind` holds of results, as JSON."""
    # First, for what else its package would import.
    signer = pair.signer
    from google.protobuf.json_format import MessageToDict
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement
    from securesystemslib.dsse import Envelope

    subject = ResourceDescriptor(name=name, digest={"sha256": document_digest(results, name)})
    statement = Statement([subject.pb], kind, dict(predicate))
    statement.validate()
    payload = json.dumps(MessageToDict(statement.pb)).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return dict(envelope.to_dict())


def keyid_of(envelope: Any) -> str:
    """The `keyid` that an envelope names; nothing is verified."""
    try:
        (signature,) = envelope["signatures"]
        return str(signature["keyid"])
    except (KeyError, TypeError, ValueError) as error:
        raise MedPerfError(f"it is no envelope of one signature: {error!r}", ASK_AGAIN) from error


def opened(envelope: Any, pem: str, kind: str = PREDICATE_TYPE) -> dict[str, Any]:
    """The statement in an envelope that the owner of a public key signed, of a `kind` of predicate.

    Raises `MedPerfError` for a signature that is not theirs, and for anything but such a statement.
    """
    key = public_key(pem, "what verifies it")
    from google.protobuf.json_format import ParseDict, ParseError
    from in_toto_attestation.v1 import statement_pb2 as pb
    from in_toto_attestation.v1.statement import Statement
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    try:
        # It changes what it reads.
        read = Envelope.from_dict(json.loads(json.dumps(envelope)))
        if read.payload_type != PAYLOAD_TYPE:
            raise ValueError(f"its payload is {read.payload_type!r}")
        read.verify([key], 1)
        found = json.loads(read.payload)
        if (found["_type"], found["predicateType"]) != (STATEMENT_TYPE, kind):
            raise ValueError(f"it is a {found['predicateType']!r}")
        Statement.copy_from_pb(ParseDict(found, pb.Statement())).validate()
        (_,) = found["subject"]
    except VerificationError:
        raise MedPerfError(f"the signature is not that of {key.keyid}", ASK_AGAIN) from None
    except (
        *(KeyError, TypeError, ValueError, AttributeError),
        *(binascii.Error, ParseError, RecursionError),
    ) as error:
        raise MedPerfError(f"it is no signed statement of results: {error}", ASK_AGAIN) from error
    return dict(found)


def _named(entity: Entity) -> dict[str, Any]:
    return {**_uid(entity), "name": entity["name"]}


def _container(entity: Entity) -> dict[str, Any]:
    return {**_named(entity), **content_of(entity)}


def _uid(entity: Entity) -> dict[str, Any]:
    uid = entity.get("id")
    return {"uid": uid} if isinstance(uid, int) else {}
