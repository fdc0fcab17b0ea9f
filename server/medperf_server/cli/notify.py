"""`medperf-server notify`: mail members what they chose to be mailed of."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from medperf_server.cli.base import registry, say

if TYPE_CHECKING:
    from threading import Event

    from flask import Flask

    from medperf_server.notices.mailserver import MailSettings


@click.command()
@click.option("--once", is_flag=True, help="Send what is due, then end; for cron.")
@click.option(
    "--interval",
    type=click.FloatRange(1, 3600),
    default=30,
    show_default=True,
    help="Seconds between two looks.",
)
def notify(once: bool, interval: float) -> None:
    """Mail members what they chose to be mailed of, until interrupted or terminated.

    Mail goes through MEDPERF_SMTP_URL, from MEDPERF_MAIL_FROM; medperf-server check tells what is
    wrong with them. What is not taken is tried again for five days. One sends at a time, so it may
    run on several hosts. With --once, exit code 1 says that the mail server was not to be had.

    \b
    Example:
      medperf-server notify
      medperf-server notify --once
    """
    from medperf_server.notices.mailserver import mail_settings

    with registry() as app, _asked_to_stop() as stopping:
        try:
            settings = mail_settings(app.config)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        if settings is None:
            raise click.ClickException(
                "No mail is set up: MEDPERF_SMTP_URL=smtp://host, and MEDPERF_MAIL_FROM"
            )
        if once:
            if trouble := _look(app, settings, stopping, is_told=True):
                raise click.ClickException(trouble)
            return
        last = ""
        while not stopping.is_set():
            trouble = _look(app, settings, stopping)
            if trouble != last:
                say(trouble or "Mail can be sent again.")
            last = trouble
            stopping.wait(interval)


def _look(app: "Flask", settings: "MailSettings", stopping: "Event", is_told: bool = False) -> str:
    """Send what is due, and tell what came of it; with `is_told` also that it was nothing.

    What kept mail from being sent, if something did.
    """
    from sqlalchemy.exc import OperationalError

    from medperf_server.notices.sender import Busy, send_due

    try:
        with app.app_context():
            done = send_due(settings, stopping.is_set)
    except Busy as error:
        if is_told:
            say(f"Nothing was sent: {error}.")
        return ""
    except OperationalError as error:
        return f"the database does not answer: {error.orig}"
    if is_told or done.sent or done.postponed or done.refused:
        counts = f"{done.postponed} to be tried again, {done.refused} refused"
        say(f"Mails: {done.sent} sent, {counts}.")
    return done.trouble


@contextmanager
def _asked_to_stop() -> "Iterator[Event]":
    """An event that is set when this process is told to end: what is under way is settled first."""
    import signal
    from threading import Event

    stopping = Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {one: signal.signal(one, lambda *_: stopping.set()) for one in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
