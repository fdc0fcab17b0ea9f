"""Ed25519 signatures (RFC 8032) with keys in PEM files, as `openssl genpkey` writes them."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from medperf_client.errors import MedPerfError, UsageError

KEY_HINT = "Make one with: openssl genpkey -algorithm ed25519 -out key.pem"
PUBLIC_HINT = "Get it from the key with: openssl pkey -in key.pem -pubout -out key.pub.pem"
# What is signed is no other protocol's message.
CONTEXT = b"medperf bundle\n"


def signer(key_file: Path) -> Callable[[bytes], bytes]:
    """Signs with the private key in a PEM file. Raises `UsageError` if it holds none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key_file} is no private key to sign with: {error}", KEY_HINT) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{key_file} holds a key of another kind than Ed25519", KEY_HINT)
    return lambda data: bytes(key.sign(CONTEXT + data))


def check_signature(data: bytes, signature: bytes | None, public_key_file: Path) -> str:
    """The SHA-256 of a public key, if its owner signed the data; else raises `MedPerfError`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_public_key(public_key_file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{public_key_file} is no public key: {error}", PUBLIC_HINT) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UsageError(f"{public_key_file} holds a key of another kind than Ed25519", PUBLIC_HINT)
    if signature is None:
        raise MedPerfError("it is not signed", "Ask who made it to export it with --sign.")
    try:
        key.verify(signature, CONTEXT + data)
    except InvalidSignature:
        raise MedPerfError(
            f"its signature is not that of {public_key_file}", "Ask who made it for it again."
        ) from None
    return sha256(key.public_bytes_raw()).hexdigest()
