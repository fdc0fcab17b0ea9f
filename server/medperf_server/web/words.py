"""How pages say things: times, links, who somebody is, what to type next."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flask import g
from markupsafe import Markup
from marshmallow import ValidationError
from sqlalchemy import select

from medperf_server.base import db
from medperf_server.errors import field_errors
from medperf_server.kinds.user.table import User
from medperf_server.links import shared
from medperf_server.readable import widened
from medperf_server.web.notices import notice, notify
from medperf_server.web.session import form_token

LONGEST_JSON = 20_000
# The controls that HTML does not allow, those that turn text around, and what is no character.
UNSHOWN = re.compile(
    r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def showable(value: Any) -> Any:
    """What a template puts out, with a mark in the place of what no page may hold."""
    # `type`, for what is markup stays so.
    return type(value)(UNSHOWN.sub("\ufffd", value)) if isinstance(value, str) else value


def moment(value: datetime | None) -> Markup:
    """A time in UTC, to the minute, for people and machines."""
    if value is None:
        return Markup("<span class='quiet'>never</span>")
    exact, shown = value.isoformat(timespec="seconds"), f"{value:%Y-%m-%d %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(exact, shown)


def web_link(url: str) -> Markup:
    """A URL that members gave: a link if it is one of the web, else its text.

    That of a file that is here has its key, as in the API's answers.
    """
    url = shared(url)
    if not url.lower().startswith(("https://", "http://")):
        return Markup("{}").format(url)
    return Markup('<a href="{0}" rel="noreferrer noopener">{0}</a>').format(url)


def as_json(value: Any) -> str:
    """What an entity keeps in JSON, for people; cut off after LONGEST_JSON characters."""
    text = ""
    # Not all at once: with its indents it may be hundreds of times what is stored.
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        text += part
        if len(text) > LONGEST_JSON:
            return f"{text[:LONGEST_JSON]}…"
    return text


def person(uid: int | None) -> str:
    """A member as others may see them: by name, or username; by address for admins."""
    user = None if uid is None else _user(uid)
    if user is None:
        return "nobody" if uid is None else f"member {uid}"
    if uid == g.caller.id:
        return "you"
    full = f"{user.first_name} {user.last_name}".strip()
    if g.caller.is_admin:
        return f"{full} ({user.email})" if full else str(user.email)
    # Who never chose a username has their address for one: it is not for everyone.
    name = user.username.partition("@")[0] if user.username == user.email else user.username
    return full or str(name)


def told(error: ValidationError) -> str:
    """A broken rule in the registry's own words, on one line."""
    messages = field_errors(error.messages).values()
    return "; ".join(str(message) for many in messages for message in many)


@contextmanager
def refusals() -> Iterator[None]:
    """What a rule refuses in the block is what the next page begins with."""
    try:
        yield
    except ValidationError as error:
        notify(told(error), good=False)


def _user(uid: int) -> User | None:
    people: dict[int, User] = g.setdefault("people", {})
    if uid not in people:
        people.update({one.id: one for one in db.session.scalars(select(User).filter_by(id=uid))})
    return people.get(uid)


def signed_in() -> dict[str, Any]:
    """Who looks at a page, for every template."""
    return {"email": g.get("email"), "caller": g.get("caller")}


FILTERS: dict[str, Callable[..., Any]] = {
    "as_json": as_json,
    "moment": moment,
    "web_link": web_link,
}
GLOBALS: dict[str, Any] = {
    "form_token": form_token,
    "notice": notice,
    "person": person,
    "widened": widened,
}
