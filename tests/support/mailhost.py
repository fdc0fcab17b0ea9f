"""A real mail server on loopback (aiosmtpd): it takes what comes unless a test says otherwise."""

import asyncio
import email
import email.policy
import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from scripts.ports import own_port

# At which command a mail server does something else than to take it.
SENDER, RECIPIENT, BEGINNING, END = "MAIL", "RCPT", "DATA", "."
USER, PASSWORD = b"registry", b"not: known/to@others"


class Mailbox:
    """What a mail server does, and what it took.

    `mails` has each mail as often as the server said that it has it, or would have said so to
    somebody who was still there.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        # The same, byte for byte.
        self.raw: list[bytes] = []
        # What it says instead of 250 at a command, as `451 later`; by recipient, or "" for all.
        self.says: dict[tuple[str, str], str] = {}
        # At which command it closes the connection, once for each time that it stands here.
        self.drops: list[str] = []
        self.delay_seconds = 0.0
        # Called when it has taken a mail, and has not said so yet; and when a recipient is named.
        self.on_taken: Callable[[EmailMessage], None] = lambda mail: None
        self.on_recipient: Callable[[str], None] = lambda address: None
        self.greeted = 0

    def to(self, address: str) -> list[EmailMessage]:
        """What it took for an address."""
        return [mail for mail in self.mails if mail["To"] == address]

    async def _does(self, server: SMTP, command: str, address: str = "") -> str:
        await asyncio.sleep(self.delay_seconds)
        if command in self.drops:
            self.drops.remove(command)
            assert server.transport is not None
            server.transport.abort()
            return "421 bye"
        return self.says.get((command, address)) or self.says.get((command, "")) or "250 OK"

    async def handle_EHLO(
        self, server: SMTP, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """See aiosmtpd's handlers."""
        self.greeted += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """See aiosmtpd's handlers."""
        said = await self._does(server, SENDER, address)
        if said.startswith("250"):
            envelope.mail_from = address
        return said

    async def handle_RCPT(
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """See aiosmtpd's handlers."""
        self.on_recipient(address)
        said = await self._does(server, RECIPIENT, address)
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """See aiosmtpd's handlers; called when all of a mail is here."""
        said = await self._does(server, BEGINNING, envelope.rcpt_tos[0])
        if not said.startswith("250"):
            return said
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage) and mail["To"] == envelope.rcpt_tos[0]
        self.mails.append(mail)
        self.raw.append(envelope.content)
        self.on_taken(mail)
        return await self._does(server, END)

    def authenticates(self, *arguments: Any) -> AuthResult:
        """Whether somebody is who they say."""
        data = arguments[4]
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER, PASSWORD)
        return AuthResult(success=good, handled=False)


@contextmanager
def mail_server(mailbox: Mailbox, port: int = 0, **options: Any) -> Iterator[int]:
    """The port of a mail server on loopback while the block runs; `options` are aiosmtpd's."""
    controller = Controller(mailbox, hostname="127.0.0.1", port=port or own_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def server_context(certificate: str) -> ssl.SSLContext:
    """For a server with the certificate and the key in a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Victim:
    """Kills a process from the mail server's thread, and waits until it is gone."""

    def __init__(self) -> None:
        self.pid = 0
        self.gone = threading.Event()

    def kill(self, *_: object) -> None:
        """Kill it, if it is known by now and was not killed yet."""
        if self.pid and not self.gone.is_set():
            os.kill(self.pid, signal.SIGKILL)
            self.gone.set()
