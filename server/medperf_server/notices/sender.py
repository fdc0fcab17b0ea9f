"""Sends letters, one sender at a time, each letter once as far as that can be held.

A letter is begun (its next try is written down), handed over, and settled. Between the mail
server's word that it has the letter and the commit that notes it there is one statement. A sender
that is killed just there, or a server that takes a letter and cannot say so any more, leaves a
letter that is sent again: with the same `Message-ID`, by which mail servers and readers know it
for the same. SMTP has no better (RFC 1047). Nothing is lost, and nothing else is sent twice.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import NullPool, create_engine, delete, func, select, update
from sqlalchemy.exc import DBAPIError, OperationalError

from medperf_server.base import db, utc_now
from medperf_server.notices.letters import composed, gather
from medperf_server.notices.mailserver import Away, MailServer, MailSettings, Postponed, Refused
from medperf_server.notices.table import EMPTY, REFUSED, SENT, WAITING, Letter, Notice

# After the first try, then twice as long each time, up to the longest; and when it is given up, in
# the manner of RFC 5321, section 4.5.4.1.
FIRST_WAIT, LONGEST_WAIT, PATIENCE = timedelta(minutes=1), timedelta(hours=6), timedelta(days=5)
# How long notices are kept, for feeds, and letters that carried them.
KEPT = timedelta(days=90)
# What nobody else locks in this database, on PostgreSQL.
LOCK = 0x6D656470657266
# How often a word of the server's is tried to be kept, a second apart.
TRIES = 30
BUSY = "another medperf-server notify is sending"


class Busy(Exception):
    """Another process sends at this moment."""


@dataclass
class Round:
    """What became of the letters that were due, and why it ended early, if it did."""

    sent: int = 0
    postponed: int = 0
    refused: int = 0
    trouble: str = ""


def send_due(settings: MailSettings, is_stopping: Callable[[], bool] = lambda: False) -> Round:
    """Gather what is due, and send it, until nothing is due or `is_stopping`.

    Raises `Busy` if another process does so, and `OperationalError` if the database goes away.
    """
    done = Round()
    with _alone() as is_alone, MailServer(settings) as server:
        gather(db.session(), settings, utc_now())
        _forget(utc_now() - KEPT)
        db.session.commit()
        while not is_stopping() and (uid := _due()) is not None:
            try:
                # Before the letter is begun: that nobody takes mail is no failure of this one.
                server.open()
                is_alone()
                _send(server, settings, uid, done)
            except Away as error:
                done.trouble = str(error)
                break
    return done


def _due() -> int | None:
    """The letter that has waited longest of those that are due."""
    waiting = select(Letter.id).where(Letter.state == WAITING, Letter.next_at <= utc_now())
    uid = db.session.scalar(waiting.order_by(Letter.next_at, Letter.id).limit(1))
    db.session.rollback()
    return uid


def _send(server: MailServer, settings: MailSettings, uid: int, done: Round) -> None:
    begun = _begin(uid)
    if begun.is_late:
        _settle(uid, REFUSED, f"nobody took it for {PATIENCE.days} days; last: {begun.trouble}")
        done.refused += 1
        return
    letter = db.session.get_one(Letter, uid)
    message = composed(db.session(), letter, settings)
    # Nothing is locked while a slow server takes its time.
    db.session.rollback()
    if message is None:
        _settle(uid, EMPTY)
        return
    try:
        server.send(message, message["To"].addresses[0].addr_spec)
    except Refused as error:
        done.refused += 1
        _settle(uid, REFUSED, str(error))
    except (Postponed, Away) as error:
        done.postponed += 1
        _note(uid, trouble=str(error))
        if isinstance(error, Away):
            raise
    else:
        _settle(uid, SENT)
        done.sent += 1


@dataclass(frozen=True)
class _Begun:
    is_late: bool
    trouble: str


def _begin(uid: int) -> _Begun:
    """Note a try before it is made: whatever it kills, the letter then waits and keeps none up."""
    letter, now = db.session.get_one(Letter, uid), utc_now()
    begun = _Begun(now - letter.created_at > PATIENCE, letter.trouble)
    letter.next_at = now + min(FIRST_WAIT * 2 ** min(letter.attempts, 20), LONGEST_WAIT)
    letter.attempts += 1
    db.session.commit()
    return begun


def _settle(uid: int, state: str, trouble: str = "") -> None:
    _note(uid, state=state, trouble=trouble, settled_at=utc_now())


def _note(uid: int, **values: object) -> None:
    """Keep what became of a letter; a database that is away for a moment must not have it sent
    again."""
    for tries_left in reversed(range(TRIES)):
        try:
            db.session.execute(update(Letter).where(Letter.id == uid).values(values))
            db.session.commit()
            return
        except OperationalError:
            db.session.rollback()
            if not tries_left:
                raise
            time.sleep(1)


def _forget(before: datetime) -> None:
    """Forget notices and letters of before a time."""
    db.session.execute(delete(Notice).where(Notice.created_at < before))
    settled = Letter.state != WAITING
    db.session.execute(delete(Letter).where(settled, Letter.created_at < before))


@contextmanager
def _alone() -> Iterator[Callable[[], None]]:
    """Be the only one who sends; yields what raises `OperationalError` if that has ended.

    Raises `Busy`. Whoever is killed lets go: the lock is the process's own on SQLite, and its
    connection's on PostgreSQL.
    """
    with (_lock_of_connection if db.engine.name == "postgresql" else _lock_of_file)() as still:
        yield still


@contextmanager
def _lock_of_file() -> Iterator[Callable[[], None]]:
    import fcntl

    path = f"{db.engine.url.database}.sending"
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(BUSY) from error
        yield lambda: None


@contextmanager
def _lock_of_connection() -> Iterator[Callable[[], None]]:
    # Of no pool: what is closed lets go, and nobody else ever uses it.
    engine = create_engine(db.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as own:
        if not own.scalar(select(func.pg_try_advisory_lock(LOCK))):
            raise Busy(BUSY)
        yield lambda: own.execute(select(1)).close()
        # Who closes lets go too, but only once the database has seen it.
        with suppress(DBAPIError):
            own.scalar(select(func.pg_advisory_unlock(LOCK)))
