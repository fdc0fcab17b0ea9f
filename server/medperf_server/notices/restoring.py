"""That a backup was put back: everybody is told."""

from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from medperf_server.base import utc_now
from medperf_server.kinds.user.table import User
from medperf_server.notices.events import AT_ONCE, Event
from medperf_server.notices.table import UNSURE, WAITING, Letter, Notice


def tell_of_restore(session: Session, made_at: str) -> None:
    """Tell every member that the registry is that of a backup, made at a time (ISO 8601).

    What waited to be mailed when the backup was made may have been mailed since: it is not mailed
    again, and stays in the feed.
    """
    letters = update(Letter).where(Letter.state == WAITING)
    session.execute(letters.values(state=UNSURE, settled_at=utc_now()))
    session.execute(update(Notice).where(Notice.is_waiting).values(is_waiting=False))
    members = session.scalars(select(User.id).where(User.is_active)).all()
    rows = [{"user_id": uid, "event": RESTORED.name, "facts": {"of": made_at}} for uid in members]
    if rows:
        session.execute(insert(Notice), rows)


def _restored(session: Session, notice: Notice, entity: Any) -> str:
    return (
        f"The registry was put back to a backup of {notice.facts['of']}: what was sent to it later "
        "is lost until sites send it again, and of what happened about then no mail may have come"
    )


RESTORED = Event("restored", "The registry is put back to a backup", AT_ONCE, _restored)
