"""Which keys are taken, and what of one may change."""

from sqlalchemy import select

from medperf_server.base import db, utc_now
from medperf_server.kinds.key.table import Key
from medperf_server.policy import Values, refuse

# Of a PEM file that holds such a key: they have 113.
MOST_PEM = 400


def check_key(values: Values) -> None:
    """Rules for a new key: what it is, and that nobody has it."""
    # Imported late: few requests are about keys.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from securesystemslib.signer import SSlibKey

    pem = values["public_key"]
    try:
        if len(pem) > MOST_PEM:
            raise ValueError("it is too long")
        key = serialization.load_pem_public_key(pem.encode())
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise ValueError("it is of another kind")
    except (ValueError, TypeError) as error:
        refuse(f"It is no public key of Ed25519 in PEM: {error}", "public_key")
    # As it was read, so that the same key is written one way.
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    values["public_key"] = key.public_bytes(*form).decode()
    values["keyid"] = keyid = SSlibKey.from_crypto(key).keyid
    if db.session.scalar(select(Key.id).where(Key.keyid == keyid)) is not None:
        refuse(f"The key {keyid} is registered already", "public_key")


def check_change(values: Values, entity: Key) -> None:
    """What comes with changes to a key: when it was revoked, for good."""
    if "is_revoked" not in values:
        return
    if values.pop("is_revoked"):
        values["revoked_at"] = entity.revoked_at or utc_now()
    elif entity.revoked_at is not None:
        refuse("A key that was revoked stays so: make another one", "is_revoked")
