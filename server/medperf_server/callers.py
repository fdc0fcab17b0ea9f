"""Who a token belongs to, asked with every request: one query, and one round trip to the database.

The query comes with every request, and SQLAlchemy's execution takes longer than all else a request
needs. It is compiled once and runs at the driver's level, outside the session's transaction:
the session's writers lock as they begin, and begin later.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, bindparam, create_engine, func, or_, select
from sqlalchemy.dialects.postgresql.asyncpg import dialect as numbered_parameters
from sqlalchemy.exc import OperationalError

from medperf_server.kinds.user.table import User
from medperf_server.models import ADMIN, SCOPES, ChangeCounter, Token


@dataclass(frozen=True)
class Caller:
    """Who sent the request: all that the rules need to know."""

    id: int
    # Whether they are an admin, and their token lets them be one.
    is_admin: bool
    # One of SCOPES.
    scope: str = ADMIN
    token_id: int = 0

    def may(self, scope: str) -> bool:
        """Whether the token is good for this scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


# With the caller comes where the change log stands: `answers` needs it with every request.
CALLER = (
    select(
        User.id,
        User.is_admin,
        Token.scope,
        Token.id,
        select(ChangeCounter.digest).scalar_subquery(),
    )
    .join(Token, Token.user_id == User.id)
    .where(
        Token.digest == bindparam("digest"),
        Token.is_session == bindparam("is_session"),
        User.is_active,
        Token.revoked_at.is_(None),
        or_(Token.expires_at.is_(None), Token.expires_at > func.current_timestamp()),
    )
)

# A caller, and the digest of the change log, by a token; with True, by a browser session's.
ReadCaller = Callable[[str, bool], tuple[Caller, str] | None]


def digest_of(token: str) -> str:
    """SHA-256 of a token, hexadecimal. Tokens are 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def caller_reader(engine: Engine) -> ReadCaller:
    """The function that reads who owns a valid token; None if it is unknown, revoked or expired.

    It raises SQLAlchemy's `OperationalError` if the database does not answer.
    """
    query = _on_postgresql(engine) if engine.dialect.name == "postgresql" else _on_sqlite(engine)

    def read(token: str, is_session: bool = False) -> tuple[Caller, str] | None:
        row = query(digest_of(token), is_session)
        if row is None:
            return None
        uid, is_admin, scope, token_id, log = row
        return Caller(uid, bool(is_admin) and scope == ADMIN, scope, token_id), log

    return read


# The columns of CALLER for a digest and whether a session is meant; None if there is no row.
Query = Callable[[str, bool], Any]


def _on_sqlite(engine: Engine) -> Query:
    compiled = CALLER.compile(engine)
    sql, names = str(compiled), compiled.positiontup or []

    def query(digest: str, is_session: bool) -> Any:
        values = {"digest": digest, "is_session": is_session}
        try:
            with closing(engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(sql, [values[name] for name in names])
                return cursor.fetchone()
        except engine.dialect.loaded_dbapi.Error as error:
            raise OperationalError(sql, None, error) from error

    return query


def _on_postgresql(engine: Engine) -> Query:
    """By libpq's own calls, which `psycopg.pq` offers: a cursor takes four times as long.

    To begin, to roll back and to ask whether the server is there would be three more round trips.
    """
    from psycopg import OperationalError as Lost
    from psycopg.pq import ExecStatus

    lending = create_engine(engine.url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
    compiled = CALLER.compile(dialect=numbered_parameters())
    sql, names = str(compiled), compiled.positiontup or []

    def query(digest: str, is_session: bool) -> Any:
        values = {"digest": digest.encode(), "is_session": b"t" if is_session else b"f"}
        for last in (False, True):
            try:
                with closing(lending.raw_connection()) as connection:
                    libpq = connection.driver_connection.pgconn  # type: ignore[union-attr]
                    if "prepared" not in connection.info:
                        result = libpq.prepare(b"caller", sql.encode())
                        connection.info["prepared"] = result.status == ExecStatus.COMMAND_OK
                    result = libpq.exec_prepared(b"caller", [values[name] for name in names])
                    if result.status != ExecStatus.TUPLES_OK:
                        raise Lost(result.error_message.decode(errors="replace"))
                    return _row(result) if result.ntuples else None
            except engine.dialect.loaded_dbapi.Error as error:
                # Connections that the pool keeps do not outlive a restart of the database server.
                lending.dispose()
                if last:
                    raise OperationalError(sql, None, error) from error

    return query


def _row(result: Any) -> tuple[int, bool, str, int, str]:
    uid, is_admin, scope, token_id, log = (result.get_value(0, column) for column in range(5))
    return int(uid), is_admin == b"t", scope.decode(), int(token_id), log.decode()
