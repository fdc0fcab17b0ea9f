"""Files on their way in: begun, continued from where they were cut, checked, given up."""

import secrets
import time
from datetime import timedelta
from typing import IO

from flask import abort, current_app
from marshmallow import ValidationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import ClientDisconnected

from medperf_server.assets import NotStored, Unavailable, store
from medperf_server.assets.base import PIECE_BYTES
from medperf_server.assets.holdings import hold, locked, require_room, too_large
from medperf_server.assets.turns import Turns
from medperf_server.base import db, utc_now
from medperf_server.kinds.user.table import User
from medperf_server.models import Asset, AssetHolder, Upload, UploadPiece

EXPIRES_AFTER = timedelta(days=7)
EXPIRED_AT_ONCE = 1000
# How long a request clears away: others wait for it.
SWEEP_SECONDS = 1.0
MOST_BEGUN = 1000
# What a connection that breaks may take along of what had arrived.
READ_BYTES = 1 << 16
TRIES = 3
GONE = "The upload is gone; begin again"


def begin(user_id: int, sha256: str, size_bytes: int, metadata: str) -> Asset | Upload:
    """The file, which the member holds from now on, or the upload that it takes.

    An upload that the member has begun of it goes on. 413 if their quota is too small, or they have
    begun too many others; raises `ValidationError` if the file is here and has another size.
    """
    _sweep()
    # Two requests of one member take turns: together they might exceed the quota. Whoever makes
    # them a holder meanwhile does not wait.
    user = db.session.get_one(User, user_id, with_for_update={"key_share": True})
    asset = locked(sha256)
    if asset is not None and sha256 in store():
        if asset.size_bytes != size_bytes:
            raise ValidationError(
                {"Upload-Length": [f"{size_bytes}; the file {sha256} has {asset.size_bytes} bytes"]}
            )
        # Somebody else was faster.
        db.session.execute(delete(Upload).filter_by(user_id=user_id, sha256=sha256))
        if db.session.get(AssetHolder, (sha256, user_id)) is None:
            require_room(user, size_bytes)
            hold(sha256, user_id)
        return asset
    same = select(Upload).filter_by(user_id=user_id, sha256=sha256, size_bytes=size_bytes)
    upload = db.session.scalar(same.limit(1))
    if upload is None:
        _require_few(user_id)
        require_room(user, size_bytes)
        upload = Upload(id=secrets.token_hex(16), user_id=user_id, sha256=sha256)
        upload.size_bytes, upload.offset_bytes, upload.metadata_header = size_bytes, 0, metadata
        db.session.add(upload)
        db.session.flush()
    return upload


def _require_few(user_id: int) -> None:
    """Refuse (413) another upload to who has begun too many; the member's row is locked."""
    count = select(func.count(Upload.id)).filter_by(user_id=user_id)
    if (db.session.scalar(count) or 0) >= MOST_BEGUN:
        too_large(
            f"You have begun to send {MOST_BEGUN} files, the most at a time: send their rest, or "
            "give some up: POST /api/v0/assets/ again tells where each is, and DELETE is sent "
            f"there. Those that nobody goes on with are gone in {EXPIRES_AFTER.days} days"
        )


def receive(upload_id: str, offset: int, size_bytes: int, stream: IO[bytes]) -> int:
    """Append to an upload what comes, piece by piece; returns how many bytes are here then.

    What came before a connection broke is kept. Of two requests that append at one offset the
    first to have done so goes on, and the other is answered 409; 404 if the upload is gone.
    """
    wanted = size_bytes - offset
    while wanted:
        piece = _read(stream, min(PIECE_BYTES, wanted))
        if piece:
            _append(upload_id, offset, piece)
            offset += len(piece)
        wanted = size_bytes - offset if len(piece) == min(PIECE_BYTES, wanted) else 0
    return offset


def _read(stream: IO[bytes], size: int) -> memoryview:
    """The next bytes; fewer than `size` once the body, or the connection, has ended."""
    buffer = bytearray()
    try:
        while len(buffer) < size and (some := stream.read(min(READ_BYTES, size - len(buffer)))):
            buffer += some
    except (ClientDisconnected, OSError):
        pass
    return memoryview(buffer)


def _append(upload_id: str, offset: int, piece: memoryview) -> None:
    """Store bytes of an upload, then let its row say so: a crash between leaves nothing wrong."""
    name = secrets.token_hex(16)
    try:
        store().write_piece(upload_id, name, piece)
    except NotStored:
        abort(404, GONE)
    moved = db.session.scalar(
        update(Upload)
        .where(Upload.id == upload_id, Upload.offset_bytes == offset)
        .values(offset_bytes=offset + len(piece), modified_at=utc_now())
        .returning(Upload.id)
        .execution_options(synchronize_session=False)
    )
    if moved:
        db.session.add(UploadPiece(upload_id=upload_id, offset_bytes=offset, name=name))
        db.session.commit()
        return
    db.session.rollback()
    store().remove_piece(upload_id, name)
    abort(409, f"The upload is not at offset {offset} any more; ask with HEAD")


def finish(upload_id: str, user_id: int, sha256: str, size_bytes: int) -> None:
    """Make an upload that is all here a file that the member holds, or discard it.

    Raises `ValidationError`, naming both, if its SHA-256 is not the one that was announced; 404 if
    the upload is gone, or somebody else has finished it meanwhile. Two that finish one upload at
    once do the same work, and the first one's counts.
    """
    pieces = select(UploadPiece.name).filter_by(upload_id=upload_id)
    names = db.session.scalars(pieces.order_by(UploadPiece.offset_bytes)).all()
    # Reading all of a large file takes long: no transaction is open meanwhile.
    db.session.rollback()
    try:
        whole, found = store().assemble(upload_id, names)
        if found != sha256:
            discard(upload_id)
            raise ValidationError(
                {"sha256": [f"{sha256} was announced, {found} has arrived: nothing is stored"]}
            )
        _attach(upload_id, whole, user_id, sha256, size_bytes)
    except NotStored:
        discard(upload_id)
        abort(404, GONE)
    store().discard(upload_id)


def _attach(upload_id: str, whole: str, user_id: int, sha256: str, size_bytes: int) -> None:
    """Publish a file, and note that it is here and who holds it."""
    for _ in range(TRIES):
        # Not in the transaction: to copy a large file within a bucket takes its time.
        store().publish(upload_id, whole, sha256)
        mine = db.session.scalar(delete(Upload).filter_by(id=upload_id).returning(Upload.id))
        new = _lock(sha256, size_bytes)
        if mine is None:
            if new:
                store().remove(sha256)
            raise NotStored(f"upload {upload_id} is gone")
        if sha256 in store():
            hold(sha256, user_id)
            db.session.commit()
            return
        # Its last holder gave it up just then.
        db.session.rollback()
    raise Unavailable(f"{sha256} was published and is not there")


def _lock(sha256: str, size_bytes: int) -> bool:
    """Have a file's row, nobody else's until the transaction ends; whether it is a new one."""
    while locked(sha256) is None:
        try:
            with db.session.begin_nested():
                db.session.add(Asset(sha256=sha256, size_bytes=size_bytes))
            return True
        except IntegrityError:
            continue
    return False


def discard(upload_id: str) -> None:
    """Give an upload up."""
    db.session.rollback()
    db.session.execute(delete(Upload).filter_by(id=upload_id))
    db.session.commit()
    store().discard(upload_id)


def _sweep() -> None:
    """Clear away uploads that nobody went on with, and pieces that belong to none.

    Each process does so once in a while, for a short time: the store may have any number of them.
    """
    turns: Turns = current_app.extensions["sweeps"]
    if not turns.is_next():
        return
    here = store().uploads()
    # Begun after that, and one each time at least: a slow store is cleared away, too.
    ends = time.monotonic() + SWEEP_SECONDS
    for upload_id in sorted(here.difference(db.session.scalars(select(Upload.id)))):
        store().discard(upload_id)
        if time.monotonic() > ends:
            break
    old = select(Upload.id).where(Upload.modified_at < utc_now() - EXPIRES_AFTER)
    some = old.limit(EXPIRED_AT_ONCE).with_for_update(skip_locked=True)
    # Their pieces belong to none then, which is for the next time.
    db.session.execute(delete(Upload).where(Upload.id.in_(db.session.scalars(some).all())))
