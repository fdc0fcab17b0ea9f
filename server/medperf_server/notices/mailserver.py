"""The server that takes the registry's mail: which one it is, and a connection to it (RFC 5321)."""

import re
import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formataddr, getaddresses, parseaddr
from typing import Any
from urllib.parse import unquote, urlsplit

from medperf_server.config import public_url

# The ports of RFC 5321, of RFC 6409 and of RFC 8314.
PLAIN, STARTTLS, TLS = "smtp", "smtp+starttls", "smtps"
PORTS = {PLAIN: 25, STARTTLS: 587, TLS: 465}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
ADDRESS = re.compile(r"[!-~]+@[!-~]+")
# Until a server that says nothing counts as away.
SECONDS = 60
# What of a reply is kept, in characters.
LONGEST = 500


class Away(Exception):
    """The server is not to be had, or takes nothing from this registry: no letter is to blame."""


class Postponed(Exception):
    """It does not take a letter now, and may do so later."""


class Refused(Exception):
    """It will never take a letter."""


@dataclass(frozen=True)
class MailSettings:
    """Where mail goes, whom it is from, and the registry's address, for links."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    sender: str
    root: str

    @property
    def address(self) -> str:
        """The sender's address without a name."""
        return parseaddr(self.sender)[1]


def mail_settings(config: Mapping[str, Any]) -> MailSettings | None:
    """The settings of mail; None if the registry sends none.

    Raises ValueError, with words for who set them, if something is wrong with them.
    """
    url = config["SMTP_URL"]
    if not url:
        return None
    try:
        found = urlsplit(url)
        scheme, host, port = found.scheme.lower(), found.hostname, found.port
    except ValueError as error:
        raise ValueError(f"MEDPERF_SMTP_URL is no URL: {error}") from None
    # Not as it is set: it has a password.
    if scheme not in PORTS or not host or found.path.strip("/") or found.query or found.fragment:
        forms = ", ".join(f"{one}://host:port" for one in PORTS)
        raise ValueError(f"MEDPERF_SMTP_URL is none of {forms}, with user:password@ where needed")
    if found.password and not found.username:
        raise ValueError("MEDPERF_SMTP_URL has a password and no user: use user:password@")
    if found.username and scheme == PLAIN and host not in LOOPBACK:
        better = f"{STARTTLS}:// or {TLS}://"
        raise ValueError(f"MEDPERF_SMTP_URL would send its password in clear: use {better}")
    name, address = _sender(config["MAIL_FROM"])
    user, password = unquote(found.username or ""), unquote(found.password or "")
    sender, root = formataddr((name, address)), public_url(config["URL"])
    return MailSettings(scheme, host, port or PORTS[scheme], user, password, sender, root)


def _sender(text: str) -> tuple[str, str]:
    """The name and the address of one sender; raises ValueError for anything else."""
    name, address = parseaddr(text)
    # What is read is all that was written: of several, or of one cut short, it would be a part.
    is_whole = text.strip() == address or text.rstrip().endswith(f"<{address}>")
    if not ADDRESS.fullmatch(address) or not is_whole or len(getaddresses([text])) != 1:
        example = "MedPerf registry <registry@example.org>"
        raise ValueError(f"MEDPERF_MAIL_FROM is no address, such as {example}")
    return name, address


class MailServer:
    """A connection to the mail server, opened when it is needed, and again when it was lost."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> "MailServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def open(self) -> None:
        """Be connected; raises `Away`."""
        if self._smtp is not None and self._smtp.sock is not None:
            return
        settings = self._settings
        where = f"{settings.host}:{settings.port}"
        try:
            self._smtp = self._connected()
            if settings.user:
                self._smtp.login(settings.user, settings.password)
        except smtplib.SMTPAuthenticationError as error:
            self._close()
            told = f"{where} refuses user {settings.user} ({_words(error)})"
            raise Away(f"{told}: look at MEDPERF_SMTP_URL") from error
        except (OSError, smtplib.SMTPException) as error:
            self._close()
            told = f"{where} does not answer as a mail server ({_words(error)})"
            raise Away(f"{told}: look at MEDPERF_SMTP_URL") from error

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        # Named after the registry, for what this machine is called may take a while to find out.
        named = urlsplit(settings.root).hostname or "localhost"
        if settings.scheme == TLS:
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(
                settings.host, settings.port, named, timeout=SECONDS, context=context
            )
        smtp = smtplib.SMTP(settings.host, settings.port, named, timeout=SECONDS)
        if settings.scheme == STARTTLS:
            try:
                smtp.starttls(context=ssl.create_default_context())
            except BaseException:
                smtp.close()
                raise
        return smtp

    def try_sender(self) -> None:
        """Ask whether it would take mail from this registry; raises `Away` if not."""
        self.open()
        assert self._smtp is not None
        try:
            self._smtp.ehlo_or_helo_if_needed()
            code, text = self._smtp.mail(self._settings.address)
            if code != 250:
                raise smtplib.SMTPSenderRefused(code, text, self._settings.address)
            self._smtp.rset()
        except (OSError, smtplib.SMTPException) as error:
            self._close()
            raise self._away(error) from error

    def send(self, message: EmailMessage, address: str) -> None:
        """Hand a message over: it is the server's once this returns.

        Raises `Away`, `Postponed` and `Refused`. After `Postponed` the server may have it all the
        same, if the connection broke before it said so (RFC 1047).
        """
        self.open()
        assert self._smtp is not None
        try:
            self._smtp.send_message(message, self._settings.address, [address])
        except smtplib.SMTPRecipientsRefused as error:
            _raise(*error.recipients[address])
        except smtplib.SMTPSenderRefused as error:
            raise self._away(error) from error
        except smtplib.SMTPDataError as error:
            _raise(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            self._close()
            raise Postponed(f"the connection broke: {_words(error)}") from error

    def _away(self, error: Exception) -> Away:
        told = f"it takes nothing from {self._settings.address} ({_words(error)})"
        return Away(f"{told}: look at MEDPERF_MAIL_FROM")

    def _close(self) -> None:
        if self._smtp is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._smtp.quit()
            self._smtp.close()
            self._smtp = None


def _raise(code: int, text: bytes | str) -> None:
    """Say by a reply's code whether there is sense in trying again."""
    raise (Refused if 500 <= code < 600 else Postponed)(_reply(code, text))


def _reply(code: int, text: bytes | str) -> str:
    """A reply on one line, as any database keeps it."""
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {''.join(char if char.isprintable() else ' ' for char in said[:LONGEST])}"


def _words(error: Exception) -> str:
    """What a server said, or what was wrong with the connection."""
    if isinstance(error, smtplib.SMTPResponseException):
        return _reply(error.smtp_code, error.smtp_error)
    return str(error) or type(error).__name__
