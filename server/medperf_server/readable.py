"""What MedPerf's clients can read: one value that they cannot costs each of them a whole list.

They read entities with pydantic 1, and refuse a list with a name that is too long, or an address
that is no `HttpUrl`. So these are a registry's limits, unless all of its members use this project's
client and a setting says so.
"""

import re

from flask import current_app, has_app_context
from marshmallow import ValidationError, validate

from medperf_server.config import WIDE

LONGEST = 20
LONGEST_URL = 2083
# As far as pydantic takes an address apart, each part being optional: what is left is refused. So
# it may not be said in one pattern with the rules below, which would have it try other parts.
PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+\-.]+)://"
    r"(?:[^\s:/]*(?::[^\s/]*)?@)?"
    r"(?P<host>\[[a-f0-9]*:[a-f0-9:]+\]|[^\s/:?#]*)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[^\s?#]*)?(?:\?[^\s#]*)?(?:#[^\s#]*)?",
    re.IGNORECASE | re.ASCII,
)
IP = re.compile(r"\[.*\]|(?:[0-9]{1,3}\.){3}[0-9]{1,3}")
LABEL = re.compile(r"(?!-)[-\w]{1,63}(?<!-)")
TOP_LEVEL = re.compile(r"[^\W\d_]{2,63}|xn--[-_0-9a-z]{2,59}", re.IGNORECASE)


def widened() -> bool:
    """Whether this registry's members are known to use none of MedPerf's clients."""
    return has_app_context() and current_app.config["LIMITS"] == WIDE


class Short(validate.Validator):
    """A text that MedPerf's clients can read in lists; any where limits are wide."""

    # What OpenAPI's document reads of a validator.
    min, equal = None, None

    @property
    def max(self) -> int | None:
        """How many characters it may have."""
        return None if widened() else LONGEST

    def __call__(self, text: str) -> str:
        """The text; raises `ValidationError`."""
        if self.max is not None and len(text) > self.max:
            raise ValidationError(f"Longer than {LONGEST} characters, which {CANNOT}")
        return text


CANNOT = "MedPerf's clients cannot read"


def web_address(url: str) -> None:
    """Raise `ValidationError` for what MedPerf's clients do not take for an address of the web."""
    if url and not widened() and (trouble := _trouble(url)):
        raise ValidationError(f"{trouble}, which {CANNOT}: give one such as https://example.org")


def _trouble(url: str) -> str:
    """What pydantic 1 would not take for an `HttpUrl`, or nothing."""
    found = PARTS.match(url)
    if found is None or found["scheme"].lower() not in ("http", "https"):
        return "It begins with neither http:// nor https://"
    if len(url) > LONGEST_URL:
        return f"It is longer than {LONGEST_URL} characters"
    if found.end() != len(url) or int(found["port"] or 0) > 65535 or not _is_host(found["host"]):
        return "It names no host with a dot in it, or more than an address does"
    return ""


def _is_host(host: str) -> bool:
    """Whether it is an IP address, or a name below some top level."""
    if IP.fullmatch(host):
        return True
    *labels, top = host.removesuffix(".").split(".")
    if not labels or not all(map(LABEL.fullmatch, labels)) or not TOP_LEVEL.fullmatch(top):
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True
