"""The private keys of this member at this machine (Ed25519, RFC 8032), one PEM file each."""

import os
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medperf_client.errors import MedPerfError, UsageError
from medperf_client.files import is_absent, write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ENDING = ".pem"


@dataclass(frozen=True)
class Pair:
    """A private key, and where it is kept."""

    file: Path
    private: "Ed25519PrivateKey"

    @cached_property
    def signer(self) -> Any:
        """What signs with it (securesystemslib's `CryptoSigner`)."""
        return signers().CryptoSigner(self.private)

    @property
    def keyid(self) -> str:
        """What securesystemslib calls the public key: people know it by that."""
        return str(self.signer.public_key.keyid)

    @property
    def public_key(self) -> str:
        """The public key in PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(*form).decode()


class Keys:
    """Keeps private keys in files of a folder that only the member can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self) -> Pair:
        """Make a key, and keep it before anybody hears of it."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        keyid = Pair(self._folder, private).keyid
        now = datetime.now(timezone.utc)
        made = Pair(self._folder / f"{now:%Y%m%d-%H%M%S}-{keyid}{ENDING}", private)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_atomically(made.file, pem.decode())
        return made

    def ids(self) -> list[str]:
        """The `keyid` of each key that is here, oldest first."""
        found = sorted(path.stem for path in self._files())
        return [name.rpartition("-")[2] for name in found]

    def get(self, keyid: str) -> Pair:
        """A key by its `keyid`, or how that begins. Raises `UsageError` unless it is one."""
        found = [path for path in self._files() if f"-{keyid}" in path.stem]
        if len(found) != 1 or not keyid.isalnum():
            many = "several keys begin" if found else "no key here begins"
            raise UsageError(f"{many} with {keyid!r}", hint="See: medperf key ls")
        return self._read(found[0])

    def forget(self, pair: Pair) -> None:
        """Delete a private key that nobody will know."""
        os.unlink(pair.file)

    def _files(self) -> list[Path]:
        # Whoever cannot see the keys has not none: nothing is to go unsigned because of that.
        try:
            if is_absent(self._folder):
                return []
            return [path for path in self._folder.iterdir() if path.suffix == ENDING]
        except OSError as error:
            raise MedPerfError(
                f"the keys in {self._folder} cannot be read: {error.strerror}",
                "Put the folder back, or move away what is in its place.",
            ) from error

    def _read(self, file: Path) -> Pair:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise ValueError("it is of another kind than Ed25519")
        except (OSError, ValueError, TypeError) as error:
            raise MedPerfError(
                f"the key {file} cannot be read: {error}",
                "Put it back from a copy, or make another one with: medperf key create --another",
            ) from error
        return Pair(file, key)


def signers() -> ModuleType:
    """securesystemslib's keys and signers, imported alone.

    It also imports the packages of cloud services, where they are installed: of those boto3 takes
    0.2 s, and opens a socket to look for IPv6.
    """
    here = "boto3" in sys.modules
    if not here:
        sys.modules["boto3"] = None  # type: ignore[assignment]
    try:
        from securesystemslib import signer
    finally:
        if not here:
            del sys.modules["boto3"]
    return signer


def public_key(pem: str, source: str) -> Any:
    """A key of securesystemslib's (`SSlibKey`) of PEM. Raises `UsageError` if it is none.

    Its `keyid` is the library's own, so everybody has the same for the same key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("it is of another kind than Ed25519")
    except ValueError as error:
        raise UsageError(f"{source} is no public key: {error}") from error
    return signers().SSlibKey.from_crypto(key)
