"""in-toto Statements v1 in DSSE envelopes of one signature, opened with a member's key.

See docs/evidence.md, https://github.com/in-toto/attestation and
https://github.com/secure-systems-lab/dsse.
"""

import binascii
import json
from typing import Any

from medperf_server.kinds.key.table import Key
from medperf_server.policy import refuse

# Where a result's metadata have what its site signed.
FIELD = "statement"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


def signer(envelope: Any) -> str:
    """The `keyid` that an envelope names. Refuses what is none; nothing is verified."""
    return str(*_read(envelope).signatures)


def opened(envelope: Any, key: Key, kind: str) -> dict[str, Any]:
    """The statement of a `kind` of predicate that the owner of a key signed, and else a refusal."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    read = _read(envelope)
    if key.revoked_at is not None:
        day = f"{key.revoked_at:%Y-%m-%d}"
        refuse(f"It is signed with {key.keyid}, which was revoked on {day}", FIELD)
    try:
        read.verify([SSlibKey.from_crypto(load_pem_public_key(key.public_key.encode()))], 1)
    except VerificationError:
        refuse(f"The signature is not that of {key.keyid}", FIELD)
    return _statement(read.payload, kind)


def _read(envelope: Any) -> Any:
    from securesystemslib.dsse import Envelope

    try:
        # It changes what it reads.
        read = Envelope.from_dict(json.loads(json.dumps(envelope)))
        (_,) = read.signatures
        if read.payload_type != PAYLOAD_TYPE:
            raise ValueError(f"its payload is {read.payload_type!r}, not {PAYLOAD_TYPE!r}")
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        refuse(f"It is no DSSE envelope of one signature: {error!r}", FIELD)
    return read


def _statement(payload: bytes, kind: str) -> dict[str, Any]:
    from google.protobuf.json_format import ParseDict, ParseError
    from in_toto_attestation.v1 import statement_pb2 as pb
    from in_toto_attestation.v1.statement import Statement

    try:
        found = json.loads(payload)
        if found["_type"] != STATEMENT_TYPE or found["predicateType"] != kind:
            raise ValueError(f"it is {found['predicateType']!r}, not {kind!r}")
        Statement.copy_from_pb(ParseDict(found, pb.Statement())).validate()
        (_,) = found["subject"]
    except (ParseError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        refuse(f"What was signed is no statement about one result: {error}", FIELD)
    return dict(found)
