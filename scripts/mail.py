"""The demo's mail server: it takes what comes, and shows it; and the new model that it tells of."""

import email
import email.policy
import threading
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer

from cast import Member, RegistryHost, say


class MailHandler(StreamRequestHandler):
    """As much of SMTP (RFC 5321) as a sender that does nothing odd needs."""

    def handle(self) -> None:
        """Take mails until the sender quits."""
        self._say("220 a mail server")
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper()
            if verb == b"QUIT":
                self._say("221 bye")
                return
            if verb == b"DATA":
                self._say("354 until a dot")
                told = b"".join(iter(self.rfile.readline, b".\r\n"))
                _show(email.message_from_bytes(told, _class=EmailMessage, policy=email.policy.SMTP))
            self._say("250 ok")

    def _say(self, reply: str) -> None:
        self.wfile.write(f"{reply}\r\n".encode())


def _show(mail: EmailMessage) -> None:
    """Print a mail as its reader sees it."""
    text = mail.get_body(("plain",))
    headers = [f"{name}: {mail[name]}" for name in ("From", "To", "Subject")]
    lines = [*headers, "", *(text.get_content().splitlines() if text else ())]
    print("\n" + "\n".join(f"    | {line}".rstrip() for line in lines), flush=True)


class MailServer(ThreadingTCPServer):
    """On a free port of this machine, until the block ends."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailHandler)
        self.url = f"smtp://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "MailServer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def tell_of_a_model(committee: Member, host: RegistryHost, model: str) -> None:
    """The committee approves one more model, and who has data in the benchmark is mailed of it."""
    committee.types("association", "approve", "--benchmark", "1", "--model_uid", model, "--yes")
    say("Whom it concerns is mailed of it, and of what else waited for them")
    with MailServer() as server:
        host.environment["MEDPERF_SMTP_URL"] = server.url
        host.environment["MEDPERF_MAIL_FROM"] = "MedPerf registry <registry@example.org>"
        host.environment["MEDPERF_URL"] = host.url
        host.types("notify", "--once")
