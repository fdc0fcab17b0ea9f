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
# Ends the process at the first socket, and at the first name that is looked up; a socket of this
# machine's, such as a local engine's, leads nowhere.
GUARD = """
import os, sys

def end(event, arguments):
    if event in ("socket.__new__", "socket.connect"):
        if arguments[event == "socket.__new__"] == 1 or getattr(arguments[0], "family", 0) == 1:
            return
    if event.startswith("socket.") and event != "socket.gethostname":
        os.write(2, f"opened: {event}\\n".encode())
        os._exit(97)

sys.addaudithook(end)
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
