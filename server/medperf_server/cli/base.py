"""What the commands share: the application's context, members by address, rows for people."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from medperf_server.config import MAX_UID

if TYPE_CHECKING:  # Flask and SQLAlchemy are slow to import, and --help needs neither.
    from flask import Flask

    from medperf_server.kinds.user.table import User

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
UID = click.IntRange(1, MAX_UID)
quiet_option = click.option("--quiet", is_flag=True, help="Print the token and nothing else.")
# Of a table's column, in characters.
WIDEST = 100


@contextmanager
def application() -> Iterator["Flask"]:
    """The application's context; what does not work in the block becomes a plain message."""
    from sqlalchemy.exc import OperationalError

    from medperf_server.app import create_app
    from medperf_server.base import db
    from medperf_server.database import NotInitialised

    try:
        app = create_app()
    except ValueError as error:
        raise click.ClickException(f"A setting is wrong: {error}") from error
    with app.app_context():
        try:
            yield app
        except NotInitialised as error:
            raise click.ClickException(str(error)) from error
        except OperationalError as error:
            raise click.ClickException(
                f"The database does not answer: {error.orig}\n"
                "medperf-server check tells what is wrong"
            ) from error
        finally:
            db.session.remove()
            db.engine.dispose()


@contextmanager
def registry() -> Iterator["Flask"]:
    """The same on an initialised database; a plain message where it is not."""
    from medperf_server.database import require_migrated

    with application() as app:
        require_migrated(app)
        yield app


def require_user(email: str) -> "User":
    """The member with this address; `click.ClickException` if there is none."""
    from medperf_server.auth import find_user

    member = find_user(email)
    if member is None:
        raise click.ClickException(f"{email} is not a member; medperf-server user ls shows who is")
    return member


def require_row(model: type[Any], uid: int, kind: str, group: str) -> Any:
    """A row by its ID; `click.ClickException` if there is none."""
    from medperf_server.base import db

    row = db.session.get(model, uid)
    if row is None:
        raise click.ClickException(
            f"There is no {kind} {uid}; medperf-server {group} ls shows them"
        )
    return row


def require_address(email: str) -> None:
    """Raise `click.BadParameter` for what is no e-mail address."""
    from marshmallow import ValidationError

    from medperf_server.kinds.user.schemas import UserSchema

    try:
        UserSchema().load({"email": email, "username": email})
    except ValidationError as error:
        raise click.BadParameter(f"{email!r} is not an e-mail address") from error


@contextmanager
def refusals() -> Iterator[None]:
    """What a rule of the registry refuses in the block becomes a plain message."""
    from marshmallow import ValidationError

    try:
        yield
    except ValidationError as error:
        messages = [text for texts in error.normalized_messages().values() for text in texts]
        raise click.ClickException(" ".join(messages)) from error


def show_token(made: dict[str, Any], quiet: bool, as_json: bool) -> None:
    """Print a new token: the only time that its text is known."""
    if as_json:
        click.echo(json.dumps(made))
        return
    if not quiet:
        say(f"The token of {made['email']}, shown this once:")
    click.echo(made["token"])


def show(rows: Any, fields: Sequence[str], as_json: bool) -> None:
    """The rows' fields as a JSON list, or as aligned columns."""
    records = [{field: getattr(row, field) for field in fields} for row in rows]
    if as_json:
        click.echo(json.dumps(records, default=lambda time: time.isoformat()))
        return
    table = [[field.upper() for field in fields]]
    table += [[_cell(record[field]) for field in fields] for record in records]
    # What is longer moves the rest of its own line only: padding for it would fill the memory.
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def plain(text: str, kept: str = "") -> str:
    """Text that members wrote, with nothing that steers a terminal but the characters in `kept`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in kept else " " for char in text)


def say(text: str) -> None:
    """Print what is for people alone, on stderr."""
    click.echo(plain(text, kept="\n"), err=True)


class Plain(click.Group):
    """Commands whose complaints steer no terminal, whatever they quote."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(context)
        except click.ClickException as error:
            error.message = plain(error.message, kept="\n")
            raise


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "-"
    return value.strftime("%Y-%m-%d %H:%M") if hasattr(value, "strftime") else plain(str(value))
