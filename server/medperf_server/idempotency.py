"""One transaction a request, and exactly-once writes by `Idempotency-Key`.

A write's claim on its key, its entity, its change rows and its stored answer commit together,
after the view has built the response. A second request with the same key waits at the claim until
the first has ended: it then answers with what was stored or, if the first failed, takes its place.
Follows the IETF draft "The Idempotency-Key HTTP Header Field".
"""

import hashlib
import re
from typing import Any

from flask import Flask, Response, abort, current_app, g, make_response, request
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from medperf_server.base import db, utc_now
from medperf_server.config import IDEMPOTENCY_DAYS
from medperf_server.models import Calendar, IdempotencyKey

KEYED = ("POST", "PUT")
KEY = re.compile("[!-~]{1,128}")
WRITES = (*KEYED, "DELETE")
# A POST there is the PATCH or the DELETE that its X-HTTP-Method-Override says.
OVERRIDDEN = "/assets/uploads/"
# What answers with a secret, which is not to be kept in clear.
SECRET = "/me/notices/feed"  # nosec B105 # a path
# Of an answer's headers those without which its client could not go on.
KEPT = ("Location", "Upload-Offset")
# What tus says in headers, where others have a body.
ANNOUNCED = ("Upload-Length", "Upload-Metadata")


def takes_key(method: str, path: str) -> bool:
    """Whether requests of this kind are told apart by a key; others may be repeated anyway."""
    return method in KEYED and OVERRIDDEN not in path and not path.rstrip("/").endswith(SECRET)


def _request_digest() -> str:
    lines = [f"{request.method} {request.path.rstrip('/')}"]
    lines += [f"{name}: {request.headers[name]}" for name in ANNOUNCED if name in request.headers]
    head = "".join(f"{line}\n" for line in lines).encode()
    return hashlib.sha256(head + request.get_data(cache=True)).hexdigest()


def _replay(row: IdempotencyKey, digest: str) -> Response:
    if row.request_digest != digest:
        abort(422, "This Idempotency-Key was used with another request; choose a new key")
    response = make_response(row.body, row.status, row.headers or {})
    response.mimetype = "application/json"
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _claim(key: str) -> Response | None:
    """Claim the key for this request, or the stored answer of the one that had it."""
    digest = _request_digest()
    owned = {"user_id": g.caller.id, "key": key}
    claim = insert(IdempotencyKey).values(**owned, request_digest=digest, day=_today())
    try:
        db.session.execute(claim)
    except IntegrityError:
        db.session.rollback()
        row = db.session.get(IdempotencyKey, owned)
        if row is None:
            raise
        return _replay(row, digest)
    g.idempotency_key = key
    return None


def _store(response: Response) -> None:
    """Keep the answer with its key; in the place of earlier ones, if it is of what is no news."""
    theirs, quiet = IdempotencyKey.user_id == g.caller.id, g.get("quiet", "")
    mine = (theirs, IdempotencyKey.key == g.idempotency_key)
    answer: dict[str, Any] = {
        "status": response.status_code,
        "body": response.get_data(as_text=True),
        "quiet": quiet,
        "headers": {name: response.headers[name] for name in KEPT if name in response.headers},
    }
    if quiet:
        db.session.execute(delete(IdempotencyKey).where(theirs, IdempotencyKey.quiet == quiet))
    db.session.execute(update(IdempotencyKey).where(*mine).values(answer))


def _today() -> int:
    """The number of this day, see `Calendar`; when it is a new one, what is too old is forgotten.

    Two requests that see a day begin meet at its row.
    """
    seen = select(Calendar.date, Calendar.number)
    date = utc_now().toordinal()
    last, number = db.session.execute(seen).one()
    if date <= last:
        return int(number)
    db.session.execute(
        update(Calendar)
        .where(Calendar.date < date)
        .values(date=date, number=Calendar.number + 1)
        .execution_options(synchronize_session=False)
    )
    _, today = db.session.execute(seen).one()
    oldest = today - IDEMPOTENCY_DAYS
    db.session.execute(delete(IdempotencyKey).where(IdempotencyKey.day < oldest))
    return int(today)


def init_app(app: Flask) -> None:
    """Replay known keys before the view; commit, or roll back, after it."""

    @app.before_request
    def replay() -> Response | None:
        key = request.headers.get("Idempotency-Key")
        if key is None or "caller" not in g or not takes_key(request.method, request.path):
            return None
        if not request.path.startswith("/api/"):
            return None  # A page may hold a new token, and an answer is kept in clear.
        if request.routing_exception is not None:
            return None  # Nothing is there that could be done: the router's answer follows.
        if not KEY.fullmatch(key):
            abort(400, "Idempotency-Key: 1 to 128 characters of ASCII without spaces, say a UUID")
        return _claim(key)

    @app.after_request
    def finish(response: Response) -> Response:
        if request.method not in WRITES or "caller" not in g:
            return response
        if response.status_code >= 400 or "Idempotent-Replayed" in response.headers:
            db.session.rollback()
            return response
        try:
            if "idempotency_key" in g:
                _store(response)
            db.session.commit()
        except SQLAlchemyError as error:
            return make_response(current_app.handle_user_exception(error))
        return response
