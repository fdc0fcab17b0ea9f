"""What members are mailed of, and when: for each event at once, once a day, or never."""

import hmac
from collections.abc import Iterable, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from medperf_server.base import db
from medperf_server.kinds import KINDS
from medperf_server.kinds.user.table import User
from medperf_server.links import keyed
from medperf_server.notices.decisions import DECISION, REQUEST
from medperf_server.notices.events import NEVER, Event
from medperf_server.notices.recording import part_of
from medperf_server.notices.restoring import RESTORED
from medperf_server.notices.table import NoticeChoice

EVENTS: dict[str, Event] = {
    event.name: event
    for event in (
        REQUEST,
        DECISION,
        *(event for part in filter(None, map(part_of, KINDS)) for event in part.EVENTS),
        RESTORED,
    )
}


def choices_of(session: Session, members: Iterable[int]) -> dict[int, dict[str, str]]:
    """For each member their choice for every event."""
    found = {uid: {name: event.usual for name, event in EVENTS.items()} for uid in members}
    for row in session.scalars(select(NoticeChoice).where(NoticeChoice.user_id.in_(found))):
        # One of an event that there is no more, with an older version, says nothing.
        if row.event in EVENTS:
            found[row.user_id][row.event] = row.choice
    return found


def choose(member: int, wanted: Mapping[str, str]) -> None:
    """Keep a member's choices for some events, and flush. Of two at once the later one holds."""
    take_turns(member)
    for event, choice in wanted.items():
        row = db.session.get(NoticeChoice, (member, event))
        if row is None:
            db.session.add(NoticeChoice(user_id=member, event=event, choice=choice))
        else:
            row.choice = choice
    db.session.flush()


def take_turns(member: int) -> None:
    """Have a member's row until the transaction ends; who only refers to it does not wait."""
    db.session.get_one(User, member, with_for_update={"key_share": True}, populate_existing=True)


def stop(member: int) -> None:
    """Mail a member nothing any more."""
    choose(member, dict.fromkeys(EVENTS, NEVER))


def stop_path(member: int) -> str:
    """The path that stops the mails of a member, for whoever has it: nobody can guess it."""
    return f"/notices/stop/{member}/{_stop_key(member)}"


def may_stop(member: int, key: str) -> bool:
    """Whether a key is that of the path that stops a member's mails."""
    return hmac.compare_digest(key.encode(), _stop_key(member).encode())


def _stop_key(member: int) -> str:
    return keyed(f"stop mail to {member}")
