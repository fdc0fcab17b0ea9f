"""What is wrong with the registry's mail, for `check`."""

from collections.abc import Iterator
from datetime import timedelta

from flask import current_app
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medperf_server.base import utc_now
from medperf_server.notices.mailserver import Away, MailServer, MailSettings, mail_settings
from medperf_server.notices.table import REFUSED, WAITING, Letter, Notice

# As long as what is due may wait while somebody sends.
SOON = timedelta(hours=1)
DAY = timedelta(days=1)


def mail_findings(session: Session) -> Iterator[tuple[str, str]]:
    """What was looked at, and what is wrong with it and how to mend that; empty if nothing is."""
    try:
        settings = mail_settings(current_app.config)
    except ValueError as error:
        yield "the settings of mail can be read", str(error)
        return
    if settings is None:
        yield "members are mailed nothing: MEDPERF_SMTP_URL is not set", ""
        return
    yield "the settings of mail can be read", ""
    yield from _sending(session)
    session.rollback()
    yield from _reaching(settings)


def _sending(session: Session) -> Iterator[tuple[str, str]]:
    now = utc_now()
    due = Letter.next_at < now - SOON
    late = select(func.count(Letter.id)).where(Letter.state == WAITING, due)
    # One of daily mails waits until its day is over.
    left = select(func.count(Notice.id)).where(
        Notice.is_waiting, Notice.created_at < now - DAY - SOON
    )
    count = (session.scalar(late) or 0) + (session.scalar(left) or 0)
    mend = "have medperf-server notify run, or from cron medperf-server notify --once"
    yield "somebody sends mail", f"{count} mails or notices wait too long: {mend}" if count else ""
    refused = select(func.count(Letter.id)).where(Letter.state == REFUSED)
    number = session.scalar(refused.where(Letter.created_at > now - 7 * DAY)) or 0
    last = select(Letter.trouble).where(Letter.state == REFUSED).order_by(Letter.id.desc()).limit(1)
    said = f" (the last: {session.scalar(last)})" if number else ""
    yield f"mails of the last week that nobody took: {number}{said}", ""


def _reaching(settings: MailSettings) -> Iterator[tuple[str, str]]:
    # One click stops mails, and readers of mail send it by https alone (RFC 8058).
    mend = f"MEDPERF_URL is {settings.root}: set the https address at which members find this"
    is_good = settings.root.startswith("https://")
    yield "links in mails lead here, by https", "" if is_good else mend
    trouble = ""
    with MailServer(settings) as server:
        try:
            server.try_sender()
        except Away as error:
            trouble = str(error)
    yield f"{settings.host} takes mail from {settings.address}", trouble
