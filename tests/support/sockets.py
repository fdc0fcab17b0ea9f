"""What a member's commands do with sockets, as their interpreter tells it."""

from pathlib import Path

from tests.support.consortium import Member

NOTE = """
import sys

def note(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        with open({log!r}, "a") as log:
            log.write(event + "\\n")

sys.addaudithook(note)
"""


class SocketLog:
    """Notes the events (see Python's table of audit events) of what a member runs from now on."""

    def __init__(self, member: Member, folder: Path) -> None:
        folder.mkdir()
        self._log = folder / "events"
        (folder / "sitecustomize.py").write_text(NOTE.format(log=str(self._log)))
        member.environment["PYTHONPATH"] = f"{folder}:{member.environment['PYTHONPATH']}"

    def taken(self) -> list[str]:
        """The events since this was asked last, such as `socket.connect`."""
        events = self._log.read_text().split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return events
