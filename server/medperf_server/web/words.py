"""How pages say things: times, links, who somebody is, what to type next."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flask import g
from markupsafe import Markup
from marshmallow import ValidationError
from sqlalchemy import select

from medperf_server.errors import field_errors
from medperf_server.models import APPROVED, Association, Benchmark, Container, User, db
from medperf_server.policy import visible
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
    """A URL that members gave: a link if it is one of the web, else its text."""
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


def benchmark_to_try() -> int | None:
    """The newest approved benchmark that the member may see, for commands that need one."""
    seen = select(Benchmark.id).where(visible(g.caller, Benchmark))
    newest = seen.filter_by(approval_status=APPROVED).order_by(Benchmark.id.desc())
    return db.session.scalar(newest.limit(1))


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


def names_of(associations: Iterable[Association]) -> tuple[dict[int, str], dict[int, str]]:
    """The names of the models that associations are of, and of the benchmarks, by UID."""
    models = {one.model_mlcube for one in associations}
    benchmarks = {one.benchmark for one in associations}
    return _names(Container, models), _names(Benchmark, benchmarks)


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


def _names(model: type[Container] | type[Benchmark], uids: set[int]) -> dict[int, str]:
    pairs = db.session.execute(select(model.id, model.name).where(model.id.in_(uids)))
    return {uid: name for uid, name in pairs}


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
    "benchmark_to_try": benchmark_to_try,
    "form_token": form_token,
    "names_of": names_of,
    "notice": notice,
    "person": person,
}
