"""Links that admit members: each works once, for some days, and only its SHA-256 is stored."""

import secrets
from datetime import timedelta

from sqlalchemy import select

from medperf_server.auth import issue_token, join
from medperf_server.base import db, utc_now
from medperf_server.callers import digest_of
from medperf_server.kinds.benchmark.table import BenchmarkMember
from medperf_server.kinds.user.table import User
from medperf_server.models import Invitation

DAYS = 7


def create(
    email: str,
    is_admin: bool = False,
    benchmark: int | None = None,
    created_by: int | None = None,
    days: int = DAYS,
) -> tuple[Invitation, str]:
    """Add an invitation to the session, and its secret, which is never shown again.

    `benchmark` is a private one that they may see from then on; `created_by` a member's UID.
    """
    secret = "mpi_" + secrets.token_urlsafe(32)
    invitation = Invitation(
        digest=digest_of(secret),
        email=email,
        is_admin=is_admin,
        benchmark=benchmark,
        created_by=created_by,
        expires_at=utc_now() + timedelta(days=days),
    )
    db.session.add(invitation)
    db.session.flush()
    return invitation, secret


def find(secret: str) -> Invitation | None:
    """The invitation of a secret, if it can still be used; locked until the transaction ends."""
    invitation = db.session.scalar(
        select(Invitation).filter_by(digest=digest_of(secret)).with_for_update()
    )
    return invitation if invitation is not None and is_open(invitation) else None


def is_open(invitation: Invitation) -> bool:
    """Whether it can still be used."""
    unused = invitation.accepted_at is None and invitation.revoked_at is None
    return unused and invitation.expires_at > utc_now()


def accept(invitation: Invitation) -> tuple[User, int, str]:
    """Use an invitation up: its member, new unless the address was known; a token's ID and text.

    A member who was disabled stays so, and their token is good for nothing.
    """
    user = join(invitation.email)
    invitation.accepted_at = utc_now()
    user.is_admin = user.is_admin or invitation.is_admin
    uid = invitation.benchmark
    if uid is not None and db.session.get(BenchmarkMember, (uid, user.id)) is None:
        db.session.add(BenchmarkMember(benchmark=uid, user_id=user.id))
    db.session.flush()
    return user, *issue_token(user.id, "invitation")
