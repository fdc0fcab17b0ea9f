"""`medperf-server token`: what clients sign in with."""

from typing import Any

import click

from medperf_server.cli.base import (
    UID,
    json_option,
    quiet_option,
    refusals,
    registry,
    require_row,
    require_user,
    show,
    show_token,
)


@click.group()
def group() -> None:
    """Tokens that clients sign in with."""


@group.command("create")
@click.argument("email")
@click.option("--name", default="", help="What it is for, to know it again in `token ls`.")
@click.option(
    "--scope",
    type=click.Choice(("read", "submit", "admin")),
    default="admin",
    show_default=True,
    help="What it is good for; `admin` is all that its owner may do.",
)
@click.option("--expires-days", type=click.IntRange(1, 36500), help="Days until it expires.")
@quiet_option
@json_option
def create(
    email: str, name: str, scope: str, expires_days: int | None, quiet: bool, as_json: bool
) -> None:
    """Make another token for a member and print it. It is shown this once.

    \b
    Example:
      medperf-server token create ada@example.org --name workstation --expires-days 90
      medperf-server token create ada@example.org --name dashboard --scope read
    """
    from datetime import timedelta

    from marshmallow import validate

    from medperf_server.auth import issue_token
    from medperf_server.base import db, utc_now
    from medperf_server.names import check_name

    with registry(), refusals():
        validate.Length(max=128)(name)
        check_name(name)
        member = require_user(email)
        expires_at = utc_now() + timedelta(days=expires_days) if expires_days else None
        uid, text = issue_token(member.id, name, expires_at, scope)
        db.session.commit()
        show_token(
            {"user_id": member.id, "email": email, "token_id": uid, "token": text}, quiet, as_json
        )


@group.command("ls")
@click.argument("email", required=False)
@click.option("--sessions", is_flag=True, help="Show the sessions of browsers too.")
@json_option
def ls(email: str | None, sessions: bool, as_json: bool) -> None:
    """List the tokens of one member, or of all. Their texts are not stored.

    \b
    Example:
      medperf-server token ls ada@example.org
    """
    from sqlalchemy import select

    from medperf_server.base import db
    from medperf_server.kinds.user.table import User
    from medperf_server.models import Token

    times = (Token.created_at, Token.expires_at, Token.revoked_at)
    columns: list[Any] = [Token.id, User.email, Token.name, Token.scope, *times]
    fields = ["id", "email", "name", "scope", "created_at", "expires_at", "revoked_at"]
    if sessions:
        columns += [Token.is_session, Token.parent_id]
        fields += ["is_session", "parent_id"]
    statement = select(*columns).join(User, User.id == Token.user_id).order_by(Token.id)
    with registry():
        if email:
            statement = statement.where(User.id == require_user(email).id)
        if not sessions:
            statement = statement.where(~Token.is_session)
        show(db.session.execute(statement), fields, as_json)


@group.command("revoke")
@click.argument("token_id", type=UID)
def revoke(token_id: int) -> None:
    """Make a token worthless from now on, with all that came of it.

    These are the browser sessions that it opened, the tokens that were made in them, and so on.

    TOKEN_ID is in `token ls`.

    \b
    Example:
      medperf-server token revoke 3
    """
    from medperf_server.auth import in_words, revoke_token
    from medperf_server.base import db
    from medperf_server.models import Token

    with registry():
        row = require_row(Token, token_id, "token", "token")
        told = in_words(revoke_token(row))
        db.session.commit()
        click.echo(f"Token {token_id} is revoked{told}.", err=True)
