"""The tokens of this member, one a registry: in the OS keyring, or a file only they can read."""

import json
import os
from pathlib import Path

from medperf_client.errors import MedPerfError
from medperf_client.files import write_atomically

SERVICE = "medperf"


class Credentials:
    """Tokens by registry URL.

    `MEDPERF_TOKEN` wins over what is stored. The keyring is used where the `keyring` package is
    installed and has a backend; else `credentials.json`, mode 0600.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "credentials.json"

    def token(self, server_url: str) -> str | None:
        """The token for a registry, or None."""
        given = os.environ.get("MEDPERF_TOKEN")
        if given:
            return given.strip()
        return self._read().get(server_url) or self._from_keyring(server_url)

    def store(self, server_url: str, token: str) -> str:
        """Keep a token; returns where, for the user to read."""
        keyring = _keyring()
        if keyring is not None:
            keyring.set_password(SERVICE, server_url, token)
            return "the system's keyring"
        self._write({**self._read(), server_url: token})
        return str(self._file)

    def forget(self, server_url: str) -> bool:
        """Delete a token; returns whether there was one."""
        tokens = self._read()
        known = tokens.pop(server_url, None) is not None
        if known:
            self._write(tokens)
        keyring = _keyring()
        if keyring is not None and keyring.get_password(SERVICE, server_url) is not None:
            keyring.delete_password(SERVICE, server_url)
            known = True
        return known

    def _read(self) -> dict[str, str]:
        if not self._file.exists():
            return {}
        try:
            tokens = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MedPerfError(
                f"{self._file} cannot be read: {error}", hint="Delete it and log in again."
            ) from error
        return dict(tokens)

    def _write(self, tokens: dict[str, str]) -> None:
        write_atomically(self._file, json.dumps(tokens, indent=2))

    @staticmethod
    def _from_keyring(server_url: str) -> str | None:
        keyring = _keyring()
        token: str | None = keyring.get_password(SERVICE, server_url) if keyring else None
        return token


def _keyring():  # type: ignore[no-untyped-def]
    """The keyring module, if it is installed and has a working backend."""
    try:
        import keyring
        from keyring.backends.fail import Keyring as NoBackend
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), NoBackend) else keyring
