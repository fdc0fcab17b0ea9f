"""What can be a URL at all, whoever wrote it: nothing is asked for to find out."""

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit


def split(url: str) -> SplitResult:
    """The parts of a URL by HTTP(S). Raises `ValueError`, saying why, for what can be none."""
    found = urlsplit(url)
    # Asking for the port reads it.
    usable = found.scheme in ("http", "https") and found.hostname and found.port != 0
    if not usable or not url.isprintable():
        raise ValueError("it starts with http:// or https:// and a host's name")
    if not _may_be_host(str(found.hostname)):
        raise ValueError(f"no host can be called {found.hostname!r}")
    return found


def without_password(url: str) -> str:
    """A URL without who asks, and their password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _may_be_host(name: str) -> bool:
    """Whether a name or an address is one that can be looked up at all (RFC 1123, section 2.1)."""
    try:
        if not name.isascii():
            # Raises where a label is empty or too long.
            name.encode("idna")
    except UnicodeError:
        return False
    labels = name.removesuffix(".").split(".")
    # In brackets a URL has an address, which was read as one.
    return ":" in name or all(re.fullmatch(r"\w([\w-]{0,61}\w)?", label) for label in labels)
