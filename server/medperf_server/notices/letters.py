"""Letters: which notices go into one mail, and what it says."""

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from typing import Any

from flask import render_template
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medperf_server.kinds.user.table import User
from medperf_server.notices.choices import choices_of, stop_path
from medperf_server.notices.events import AT_ONCE, DAILY, NEVER
from medperf_server.notices.mailserver import MailSettings
from medperf_server.notices.table import Letter, Notice
from medperf_server.notices.wording import Line, line_of

# What is older when mail begins to be sent is in the feed, and no news to be mailed any more.
STALE = timedelta(days=7)
# In one mail, and of its subject in characters.
MOST_LINES, LONGEST_SUBJECT = 50, 150
AT_ONE_TIME = 500


class Unfolded(UnstructuredHeader, BaseHeader):
    """A header on one line, for a URL of more than 78 characters has to stay one: Python would take
    it for words, and encode them. RFC 5322 lets a line have 998."""

    def fold(self, *, policy: Policy) -> str:
        """See `BaseHeader`."""
        return f"{self.name}: {self}{policy.linesep}"


HEADERS = HeaderRegistry()
HEADERS.map_to_type("list-unsubscribe", Unfolded)
# As mail servers want it, RFC 5321 and RFC 5322.
FORM = SMTP.clone(header_factory=HEADERS)


def gather(session: Session, settings: MailSettings, now: datetime) -> None:
    """Make a letter for each member of what is due, and forget what nobody wants to be mailed.

    What is to be mailed at once is due; what daily, once the day (UTC) is over on which it came.
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    waiting = _waiting(session)
    choices = choices_of(session, waiting)
    active = set(session.scalars(select(User.id).where(User.is_active)))
    forgotten: list[int] = []
    for member, notices in waiting.items():
        due = []
        for notice in notices:
            choice = choices[member].get(notice.event, NEVER) if member in active else NEVER
            if choice == NEVER or notice.created_at < now - STALE:
                forgotten.append(notice.id)
            elif choice == AT_ONCE or (choice == DAILY and notice.created_at < today):
                due.append(notice.id)
        if due:
            _carry(session, due, _letter(session, member, settings))
    _carry(session, forgotten, None)


def _waiting(session: Session) -> dict[int, list[Any]]:
    """The notices of which nobody has decided, by member."""
    columns = select(Notice.id, Notice.user_id, Notice.event, Notice.created_at)
    found: dict[int, list[Any]] = defaultdict(list)
    for row in session.execute(columns.where(Notice.is_waiting).order_by(Notice.id)):
        found[row.user_id].append(row)
    return found


def _letter(session: Session, member: int, settings: MailSettings) -> int:
    domain = settings.address.rpartition("@")[2]
    letter = Letter(user_id=member, message_id=f"<{secrets.token_hex(16)}@{domain}>")
    session.add(letter)
    session.flush()
    return letter.id


def _carry(session: Session, notices: Sequence[int], letter: int | None) -> None:
    for start in range(0, len(notices), AT_ONE_TIME):
        some = Notice.id.in_(notices[start : start + AT_ONE_TIME])
        session.execute(update(Notice).where(some).values(is_waiting=False, letter_id=letter))


def composed(session: Session, letter: Letter, settings: MailSettings) -> EmailMessage | None:
    """The mail of a letter as it is to be sent now; None if it has nothing to tell any more.

    It says what its member may see at this moment, and nothing that they stopped since. Its
    `Message-ID` and date are the letter's, so that it is the same mail however often it is sent.
    """
    member = session.get_one(User, letter.user_id)
    lines = list(_lines(session, member, letter)) if member.is_active else []
    if not lines:
        return None
    stop, shown = settings.root + stop_path(member.id), lines[:MOST_LINES]
    message = EmailMessage(FORM)
    message["From"] = settings.sender
    message["To"] = member.email
    message["Subject"] = _subject(lines)
    message["Date"] = format_datetime(letter.created_at)
    message["Message-ID"] = letter.message_id
    # By a program: nobody's absence is to be told to it (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message["List-Unsubscribe"] = f"<{stop}>"
    if stop.startswith("https://"):
        # RFC 8058: with one click, which only https may carry.
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    told = {"lines": shown, "more": len(lines) - len(shown), "root": settings.root, "stop": stop}
    message.set_content(render_template("mail.txt", **told), cte="quoted-printable")
    page = render_template("mail.html", **told)
    message.add_alternative(page, subtype="html", cte="quoted-printable")
    return message


def _lines(session: Session, member: User, letter: Letter) -> Iterator[Line]:
    choices = choices_of(session, [member.id])[member.id]
    notices = select(Notice).filter_by(letter_id=letter.id).order_by(Notice.id)
    for notice in session.scalars(notices).all():
        if choices.get(notice.event, NEVER) != NEVER:
            line = line_of(session, member, notice)
            if line:
                yield line


def _subject(lines: Sequence[Line]) -> str:
    """What came, or how much and what first; all of it printed characters, on one line."""
    count = f"{len(lines)} notices: " if len(lines) > 1 else ""
    text = "".join(char if char.isprintable() else " " for char in lines[0].text)
    said = f"MedPerf: {count}{text}"
    return said if len(said) <= LONGEST_SUBJECT else f"{said[: LONGEST_SUBJECT - 1]}…"
