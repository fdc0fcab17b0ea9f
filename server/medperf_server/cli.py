"""The `medperf-server` command: set the registry up, admit members, serve."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # Flask and SQLAlchemy are slow to import, and --help needs neither.
    from flask import Flask

    from medperf_server.models import User

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
quiet_option = click.option("--quiet", is_flag=True, help="Print the token and nothing else.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The registry of a MedPerf consortium.

    The database is SQLite in ./instance/ unless MEDPERF_DATABASE_URL holds another SQLAlchemy URL.

    \b
    Example:
      medperf-server init
      medperf-server user add ada@example.org --admin
      medperf-server run
    """


@main.command()
def init() -> None:
    """Create the database, or bring it to the newest version. Safe to repeat.

    \b
    Example:
      medperf-server init
    """
    from medperf_server.app import create_app
    from medperf_server.database import migrate

    app = create_app()
    migrate(app)
    click.echo(f"The database is ready: {_shown_url(app)}", err=True)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
def run(host: str, port: int) -> None:
    """Serve the registry until it is interrupted or terminated.

    For many users, serve `medperf_server.wsgi:app` with gunicorn behind a proxy that does TLS.

    \b
    Example:
      medperf-server run --host 0.0.0.0 --port 8000
    """
    import signal

    import waitress

    from medperf_server.config import MAX_BODY_BYTES

    with _registry() as app:
        pass
    # The application answers 413 in JSON itself; waitress only bounds what it buffers for that.
    limit = 16 * MAX_BODY_BYTES
    try:
        server = waitress.create_server(
            app, host=host, port=port, threads=8, max_request_body_size=limit
        )
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror}") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A name such as localhost may mean several sockets, which then share the given port.
    port = getattr(server, "effective_port", port)
    click.echo(f"Listening on http://{host}:{port}")
    server.run()


@main.group()
def user() -> None:
    """Members of the consortium."""


@user.command("add")
@click.argument("email")
@click.option("--admin", is_flag=True, help="May approve benchmarks and manage members.")
@quiet_option
@json_option
def user_add(email: str, admin: bool, quiet: bool, as_json: bool) -> None:
    """Admit a member and print their first token. It is shown this once.

    \b
    Example:
      medperf-server user add ada@example.org
    """
    from marshmallow import ValidationError

    from medperf_server.auth import add_user, issue_token
    from medperf_server.models import db
    from medperf_server.schemas import UserSchema

    with _registry():
        try:
            UserSchema().load({"email": email, "username": email})
        except ValidationError as error:
            raise click.BadParameter(f"{email!r} is not an e-mail address") from error
        if _find_user(email):
            raise click.ClickException(
                f"{email} is a member already; for another token: "
                f"medperf-server token create {email}"
            )
        member = add_user(email, is_admin=admin)
        uid, text = issue_token(member.id)
        db.session.commit()
        _show_token(
            {"user_id": member.id, "email": email, "token_id": uid, "token": text}, quiet, as_json
        )


@user.command("ls")
@json_option
def user_ls(as_json: bool) -> None:
    """List the members.

    \b
    Example:
      medperf-server user ls
    """
    from sqlalchemy import select

    from medperf_server.models import User, db

    with _registry():
        members = db.session.scalars(select(User).order_by(User.id))
        _show(members, ("id", "email", "username", "is_admin", "created_at"), as_json)


@main.group()
def token() -> None:
    """Tokens that clients sign in with."""


@token.command("create")
@click.argument("email")
@click.option("--name", default="", help="What it is for, to know it again in `token ls`.")
@click.option("--expires-days", type=click.IntRange(1, 36500), help="Days until it expires.")
@quiet_option
@json_option
def token_create(
    email: str, name: str, expires_days: int | None, quiet: bool, as_json: bool
) -> None:
    """Make another token for a member and print it. It is shown this once.

    \b
    Example:
      medperf-server token create ada@example.org --name workstation --expires-days 90
    """
    from datetime import timedelta

    from medperf_server.auth import issue_token
    from medperf_server.models import db, utc_now

    with _registry():
        member = _require_user(email)
        expires_at = utc_now() + timedelta(days=expires_days) if expires_days else None
        uid, text = issue_token(member.id, name, expires_at)
        db.session.commit()
        _show_token(
            {"user_id": member.id, "email": email, "token_id": uid, "token": text}, quiet, as_json
        )


@token.command("ls")
@click.argument("email", required=False)
@json_option
def token_ls(email: str | None, as_json: bool) -> None:
    """List the tokens of one member, or of all. Their texts are not stored.

    \b
    Example:
      medperf-server token ls ada@example.org
    """
    from sqlalchemy import select

    from medperf_server.models import Token, User, db

    columns = (Token.id, User.email, Token.name, Token.created_at, Token.expires_at)
    statement = select(*columns, Token.revoked_at).join(User, User.id == Token.user_id)
    with _registry():
        if email:
            statement = statement.where(User.id == _require_user(email).id)
        rows = db.session.execute(statement.order_by(Token.id))
        _show(rows, ("id", "email", "name", "created_at", "expires_at", "revoked_at"), as_json)


@token.command("revoke")
@click.argument("token_id", type=int)
def token_revoke(token_id: int) -> None:
    """Make a token worthless from now on. TOKEN_ID is in `token ls`.

    \b
    Example:
      medperf-server token revoke 3
    """
    from medperf_server.models import Token, db, utc_now

    with _registry():
        row = db.session.get(Token, token_id)
        if row is None:
            raise click.ClickException(
                f"There is no token {token_id}; medperf-server token ls shows them"
            )
        row.revoked_at = row.revoked_at or utc_now()
        db.session.commit()
        click.echo(f"Token {token_id} is revoked.", err=True)


@contextmanager
def _registry() -> Iterator["Flask"]:
    """The application's context on an initialised database; a plain message where it is not."""
    from medperf_server.app import create_app
    from medperf_server.database import NotInitialised, require_migrated

    app = create_app()
    try:
        require_migrated(app)
    except NotInitialised as error:
        raise click.ClickException(str(error)) from error
    with app.app_context():
        yield app


def _shown_url(app: "Flask") -> str:
    from medperf_server.models import db

    with app.app_context():
        return db.engine.url.render_as_string()


def _find_user(email: str) -> "User | None":
    from sqlalchemy import func, select

    from medperf_server.models import User, db

    return db.session.scalar(select(User).where(func.lower(User.email) == email.lower()))


def _require_user(email: str) -> "User":
    member = _find_user(email)
    if member is None:
        raise click.ClickException(f"{email} is not a member; medperf-server user ls shows who is")
    return member


def _show_token(made: dict[str, Any], quiet: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(made))
        return
    if not quiet:
        click.echo(f"The token of {made['email']}, shown this once:", err=True)
    click.echo(made["token"])


def _show(rows: Any, fields: Sequence[str], as_json: bool) -> None:
    """The rows' fields as a JSON list, or as aligned columns."""
    records = [{field: getattr(row, field) for field in fields} for row in rows]
    if as_json:
        click.echo(json.dumps(records, default=lambda time: time.isoformat()))
        return
    table = [[field.upper() for field in fields]]
    table += [[_cell(record[field]) for field in fields] for record in records]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "-"
    return value.strftime("%Y-%m-%d %H:%M") if hasattr(value, "strftime") else str(value)


if __name__ == "__main__":
    main()
