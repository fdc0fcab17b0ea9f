"""What may be wrong with members."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from medperf_server.base import folded
from medperf_server.checks import Finding, uids
from medperf_server.kinds.user.table import User


def findings(session: Session) -> Iterator[Finding]:
    """Whether each member is found by their address and their username."""
    doubled = uids(
        user
        for user in session.scalars(select(User).order_by(User.id))
        if (user.email_key, user.username_key) != (folded(user.email), folded(user.username))
    )
    mend = "give them others, PUT /api/v0/users/<id>/, or remove them"
    yield Finding(
        "addresses and usernames are one member's each",
        doubled and f"members {doubled} have what others had before: {mend}",
    )
