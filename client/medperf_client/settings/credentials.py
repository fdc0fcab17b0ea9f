"""The tokens of this member, one a registry: in the OS keyring, or a file only they can read."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medperf_client.errors import MedPerfError, UsageError
from medperf_client.files import is_absent, write_atomically

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
            return checked(given, "MEDPERF_TOKEN")
        return self._read().get(server_url) or self._from_keyring(server_url)

    def store(self, server_url: str, token: str) -> str:
        """Keep a token; returns where, for the user to read."""
        keyring = _keyring()
        if keyring is None:
            self._write({**self._read(), server_url: token})
            return str(self._file)
        with _unlocked():
            keyring.set_password(SERVICE, server_url, token)
        self._drop(server_url)
        return "the system's keyring"

    def forget(self, server_url: str) -> bool:
        """Delete a token; returns whether there was one."""
        known = self._drop(server_url)
        if self._from_keyring(server_url) is not None:
            with _unlocked():
                _keyring().delete_password(SERVICE, server_url)
            known = True
        return known

    def _drop(self, server_url: str) -> bool:
        tokens = self._read()
        known = tokens.pop(server_url, None) is not None
        if known:
            self._write(tokens)
        return known

    def _read(self) -> dict[str, str]:
        try:
            if is_absent(self._file):
                return {}
            tokens = json.loads(self._file.read_text(encoding="utf-8"))
            return {url: checked(token, str(self._file)) for url, token in tokens.items()}
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise MedPerfError(
                f"{self._file} cannot be read", hint="Delete it and log in again."
            ) from error

    def _write(self, tokens: dict[str, str]) -> None:
        write_atomically(self._file, json.dumps(tokens, indent=2))

    @staticmethod
    def _from_keyring(server_url: str) -> str | None:
        keyring = _keyring()
        if keyring is None:
            return None
        with _unlocked():
            token: str | None = keyring.get_password(SERVICE, server_url)
        return token


def checked(token: object, where: str) -> str:
    """A token without the white space around it.

    Raises `UsageError`, without the token in it, for what no HTTP header can carry.
    """
    text = token.strip() if isinstance(token, str) else ""
    if not re.fullmatch("[!-~]+", text):
        raise UsageError(f"{where} holds no token", hint="It looks like mpf_… and is one line.")
    return text


@contextmanager
def _unlocked() -> Iterator[None]:
    """The block uses the keyring; what that refuses becomes a `MedPerfError`."""
    from keyring.errors import KeyringError

    try:
        yield
    except KeyringError as error:
        raise MedPerfError(
            f"the system's keyring refused: {error}",
            hint="Unlock it, or give the token in MEDPERF_TOKEN.",
        ) from error


def _keyring() -> Any:
    """The keyring module, if it is installed and has a working backend."""
    try:
        import keyring
        from keyring.backends.fail import Keyring as NoBackend
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), NoBackend) else keyring
