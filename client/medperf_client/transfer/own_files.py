"""The files that a registry stores for its members: their URLs, and whom a token is told."""

import re
from collections.abc import Callable
from dataclasses import dataclass

# With the key that lets clients fetch it that send no token, or without.
ASSET = re.compile(r"https?://\S+/api/v0/assets/([0-9a-f]{64})(?:\?key=[0-9a-f]*)?")


@dataclass(frozen=True)
class OwnFiles:
    """The files of this site's registry. `token` gives the member's, if they are logged in."""

    server_url: str
    token: Callable[[], str | None]

    def url(self, digest: str) -> str:
        """Where the registry has, or will have, the file of this SHA-256."""
        return f"{self.server_url}/api/v0/assets/{digest}"

    def counterpart(self, url: str) -> str | None:
        """Where this registry would have the file that a URL names by its SHA-256.

        Others may know the same registry by another address.
        """
        found = ASSET.fullmatch(url)
        return self.url(found[1]) if found else None

    def token_for(self, url: str) -> str | None:
        """The token to send to a URL: to none but this registry's own files."""
        return self.token() if url == self.counterpart(url) else None
