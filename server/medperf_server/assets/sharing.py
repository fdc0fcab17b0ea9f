"""Who may read files without a token: whoever has a link, as long as something public names it."""

from typing import NoReturn

from flask import abort
from sqlalchemy import or_, select

from medperf_server import links
from medperf_server.base import db, utc_now
from medperf_server.kinds import KINDS, not_of_private_alone
from medperf_server.limits import count_failure
from medperf_server.models import Asset

NO_TOKEN = "A valid token is needed: Authorization: Bearer <token>"  # nosec B105 # no password


def require_link(sha256: str) -> None:
    """Refuse (401) whoever has no token, unless they have the link of a file that is not of
    private things alone."""
    if not links.is_good(sha256):
        count_failure()
        refuse()
    if not _is_open(sha256):
        refuse()


def refuse() -> NoReturn:
    """Refuse (401) whoever has no good token."""
    abort(401, NO_TOKEN)


def renew_links() -> int:
    """Make every link worthless; how many entities have new ones, of which sites are told."""
    links.renew()
    here, now, count = select(Asset.sha256), utc_now(), 0
    for kind in KINDS:
        if not kind.files:
            continue
        names = or_(*(column.in_(here) for column in kind.files))
        for entity in db.session.scalars(select(kind.table).where(names)):
            entity.modified_at = now
            count += 1
    return count


def _is_open(sha256: str) -> bool:
    for kind in KINDS:
        names = or_(*(column == sha256 for column in kind.files))
        found = select(kind.table.id).where(names, not_of_private_alone(kind)).limit(1)
        if kind.files and db.session.scalar(found) is not None:
            return True
    return False
