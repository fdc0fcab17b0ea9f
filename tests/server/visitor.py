"""A browser as far as most tests need one: it keeps cookies and sends forms."""

import html
import re
from html.parser import HTMLParser
from typing import Any

import requests

from tests.support.api import Member
from tests.support.registry import Registry

COOKIE = "medperf_session"


class Visitor:
    """A browser as far as these tests need one: it keeps cookies and sends forms."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.session = requests.Session()
        self.session.trust_env = False

    def opens(self, path: str, **options: Any) -> requests.Response:
        """GET a page."""
        return self.session.get(self.registry.url + path, timeout=60, **options)

    def sends(self, path: str, form: dict[str, str], **options: Any) -> requests.Response:
        """POST a form."""
        return self.session.post(self.registry.url + path, form, timeout=60, **options)

    def fills(self, path: str, form: dict[str, str], on: str = "/") -> requests.Response:
        """POST a form with what a page carries for it: the form token, what was seen."""
        page = self.opens(on).text
        return self.sends(path, {"form_token": form_token(page), **seen_on(page), **form})


class Elements(HTMLParser):
    """The elements of a page as a browser sees them, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def are_harmless(self) -> None:
        """Assert that no element is of what members write; links lead here or to the web."""
        for tag, attributes in self.found:
            assert tag not in ("img", "style", "iframe", "object", "base"), attributes
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert tag != "script" or attributes["src"].startswith("/static/"), attributes
            link = attributes.get("href", "/")
            # Browsers overlook what is not seen in it, and take a backslash for a slash.
            link = re.sub(r"[\x00-\x20]", "", link).replace("\\", "/").lower()
            scheme = re.match("[^/?#]*:|//", link)
            assert scheme is None or scheme[0] in ("http:", "https:"), link


def form_token(page: str) -> str:
    """The form token on a page."""
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
    assert found is not None, page
    return found[1]


def seen_on(page: str) -> dict[str, str]:
    """What a form on a page that decides a benchmark says was seen; nothing on other pages."""
    found = re.search(r'name="seen" value="([0-9a-f]{64})"', page)
    return {"seen": found[1]} if found else {}


def token_of(member: Member) -> str:
    """A member's API token."""
    return str(member.session.headers["Authorization"]).removeprefix("Bearer ")


def signed_in(member: Member) -> Visitor:
    """A browser in which a member has signed in, with the token that they have here."""
    visitor = Visitor(member.registry)
    answer = visitor.sends("/sign-in", {"token": token_of(member)})
    assert answer.status_code == 200 and member.email in answer.text
    return visitor


def table_of(page: str, caption: str) -> list[list[str]]:
    """The texts of the cells of the table with this caption, a list a row."""
    (table,) = [one for one in re.findall(r"<table.*?</table>", page, re.S) if caption in one]
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[html.unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row] for row in cells]
