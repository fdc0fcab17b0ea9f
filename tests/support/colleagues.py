"""Two members of one site, where the policy has two persons release."""

import json
from pathlib import Path
from typing import Any

from tests.support.consortium import Member
from tests.support.hospital import Hospital

TWO = "release:\n  persons: 2\n"


class Site:
    """A hospital whose member `first` asks for releases, to which `second` agrees.

    Each has a home, a token and a key of their own. They share a folder.
    """

    def __init__(self, hospital: Hospital, folder: Path) -> None:
        self.hospital, self.folder = hospital, folder
        folder.mkdir()
        self.first = hospital.member
        self.second = self.joined("colleague")
        self.first.does("profile", "set", "releases_folder", str(folder))
        self.first.json("key", "create", "--name", "first")
        self.first.does("sync")

    def joined(self, name: str, with_key: bool = True) -> Member:
        """One more member of the site."""
        member = self.hospital.consortium.member(name)
        member.does("profile", "set", "releases_folder", str(self.folder))
        member.does("sync")
        if with_key:
            member.json("key", "create", "--name", name)
        return member

    def two_persons(self, more: str = "") -> None:
        """Have the policy say so at both."""
        for member in (self.first, self.second):
            (member.home / "policy.yaml").write_text(TWO + more)

    def asks(self, *words: str) -> str:
        """What the first one asks the second to agree to; the UID of the request."""
        told = self.held(*(words or ("result", "submit", "-r", "b1m2d1", "-y")))
        assert told["state"] == "pending", told
        return str(told["release"])

    def held(self, *words: str) -> Any:
        """The JSON of a command of the first one's, which sends nothing."""
        done = self.first.run(*words, "--json")
        assert done.returncode == 1, f"medperf {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def agrees(self, request: str) -> None:
        """The second one looks at it, and agrees."""
        self.second.does("result", "review", request)
        self.second.does("result", "review", request, "--approve", "-y")

    def state(self, request: str, member: Member | None = None) -> str:
        """How a request stands, as a member is told: the first, if none is given."""
        listed = (member or self.first).json("result", "review")
        return str(next(one["state"] for one in listed if one["id"] == request))

    def verdict(self, request: str) -> Path:
        """The file of the one verdict on a request."""
        (found,) = (
            path for path in self.folder.glob(f"*/{request}/*.json") if path.name != "request.json"
        )
        return found
