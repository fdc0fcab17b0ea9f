"""Who holds which file, and how much of it that makes: a member's quota bounds it."""

from typing import NoReturn

from flask import abort, current_app, jsonify, make_response
from sqlalchemy import func, select

from medperf_server.assets import store
from medperf_server.base import db
from medperf_server.kinds.user.table import User
from medperf_server.models import Asset, AssetHolder, Upload
from medperf_server.policy import check_asset_unused


def quota_bytes(user: User) -> int:
    """How much a member may keep here."""
    default: int = current_app.config["ASSET_QUOTA_BYTES"]
    return default if user.quota_bytes is None else user.quota_bytes


def used_bytes(user: User) -> int:
    """What a member holds, and what they are about to send."""
    held = (
        select(func.sum(Asset.size_bytes))
        .join(AssetHolder, AssetHolder.sha256 == Asset.sha256)
        .where(AssetHolder.user_id == user.id)
    )
    coming = select(func.sum(Upload.size_bytes)).filter_by(user_id=user.id)
    return int(db.session.scalar(held) or 0) + int(db.session.scalar(coming) or 0)


def require_room(user: User, size_bytes: int) -> None:
    """Refuse (413) what would exceed a member's quota; the member's row is locked."""
    quota, used = quota_bytes(user), used_bytes(user)
    if used + size_bytes > quota:
        too_large(
            f"This file has {size_bytes} bytes; of your quota of {quota} bytes, {used} are used. "
            "What you hold: GET /api/v0/me/assets/; to give a file up: "
            "DELETE /api/v0/assets/<sha256>"
        )


def too_large(reason: str) -> NoReturn:
    """Refuse with 413, for another reason than the usual one."""
    abort(make_response(jsonify(detail=reason), 413))


def locked(sha256: str) -> Asset | None:
    """A file's row, nobody else's until the transaction ends: it keeps the bytes where they are."""
    return db.session.get(Asset, sha256, with_for_update=True, populate_existing=True)


def hold(sha256: str, user_id: int) -> None:
    """Make a member a holder of a file; no error if they are."""
    if db.session.get(AssetHolder, (sha256, user_id)) is None:
        db.session.add(AssetHolder(sha256=sha256, user_id=user_id))
        db.session.flush()


def release(sha256: str, user_id: int) -> None:
    """Give up a member's hold; the bytes go with the last one.

    404 if they have none. Raises `ValidationError` if it is the last one and a container or a
    benchmark refers to the file.
    """
    if _let_go(sha256, user_id):
        store().remove(sha256)


def remove_member(user: User) -> None:
    """Remove a member, who gives up all that they hold.

    Raises `ValidationError` if a container or a benchmark refers to a file that nobody else holds:
    nothing is removed then.
    """
    held = select(AssetHolder.sha256).filter_by(user_id=user.id).order_by(AssetHolder.sha256)
    gone = [sha256 for sha256 in db.session.scalars(held).all() if _let_go(sha256, user.id)]
    db.session.delete(user)
    # What they own refuses it here, while every byte is still there.
    db.session.flush()
    for sha256 in gone:
        store().remove(sha256)


def _let_go(sha256: str, user_id: int) -> bool:
    """Give up a member's hold; whether it was the last one, and the file's row is gone with it."""
    asset, holder = locked(sha256), db.session.get(AssetHolder, (sha256, user_id))
    if asset is None or holder is None:
        abort(404, "Not found.")
    db.session.delete(holder)
    db.session.flush()
    others = select(AssetHolder.user_id).filter_by(sha256=sha256).limit(1)
    if db.session.scalar(others) is not None:
        return False
    check_asset_unused(sha256)
    db.session.delete(asset)
    db.session.flush()
    return True
