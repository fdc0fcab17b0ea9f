"""`medperf-server user`: members of the consortium."""

import re
from typing import TYPE_CHECKING, Any

import click

from medperf_server.cli.base import (
    json_option,
    quiet_option,
    refusals,
    registry,
    require_address,
    require_user,
    say,
    show,
    show_token,
)

if TYPE_CHECKING:
    from medperf_server.kinds.user.table import User

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class Quota(click.ParamType):
    """Bytes, as `20GiB`; `default` is the registry's own quota."""

    name = "size"

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """The number of bytes, or `default`."""
        if isinstance(value, int) or value == "default":
            return value
        match = re.fullmatch(r"(\d{1,18})\s*([a-z]*)", value, re.IGNORECASE)
        unit = UNITS.get(match[2].upper()) if match else None
        if match is None or unit is None or int(match[1]) * unit >= 2**63:
            self.fail(f"{value!r} is no size; write 500MiB, 20GiB, 2TiB, or default")
        return int(match[1]) * unit


@click.group()
def group() -> None:
    """Members of the consortium."""


@group.command("add")
@click.argument("email")
@click.option("--admin", is_flag=True, help="May approve benchmarks and manage members.")
@quiet_option
@json_option
def add(email: str, admin: bool, quiet: bool, as_json: bool) -> None:
    """Admit a member and print their first token. It is shown this once.

    \b
    Example:
      medperf-server user add ada@example.org
    """
    from medperf_server.auth import add_user, find_user, issue_token
    from medperf_server.base import db

    with registry():
        require_address(email)
        if find_user(email):
            raise click.ClickException(
                f"{email} is a member already; for another token: "
                f"medperf-server token create {email}"
            )
        with refusals():
            member = add_user(email, is_admin=admin)
        uid, text = issue_token(member.id)
        db.session.commit()
        show_token(
            {"user_id": member.id, "email": email, "token_id": uid, "token": text}, quiet, as_json
        )


@group.command("ls")
@json_option
def ls(as_json: bool) -> None:
    """List the members.

    \b
    Example:
      medperf-server user ls
    """
    from sqlalchemy import select

    from medperf_server.base import db
    from medperf_server.kinds.user.table import User

    fields = ("id", "email", "username", "is_admin", "is_active", "quota_bytes", "created_at")
    with registry():
        show(db.session.scalars(select(User).order_by(User.id)), fields, as_json)


@group.command("set")
@click.argument("email")
@click.option("--admin/--no-admin", default=None, help="May approve benchmarks, manage members.")
@click.option(
    "--quota", type=Quota(), help="How much they may store here, as 20GiB; default: as everyone."
)
def change(email: str, admin: bool | None, quota: int | str | None) -> None:
    """Change what a member may do.

    \b
    Example:
      medperf-server user set ada@example.org --admin --quota 20GiB
    """
    if admin is None and quota is None:
        raise click.UsageError("Nothing to change: give --admin, --no-admin or --quota.")
    values: dict[str, Any] = {} if admin is None else {"is_admin": admin}
    if quota is not None:
        values["quota_bytes"] = None if quota == "default" else quota
    with registry():
        member = _changed(email, values)
        role = "an admin" if member.is_admin else "no admin"
        size = "the registry's" if member.quota_bytes is None else f"{member.quota_bytes} bytes"
        say(f"{member.email} is {role}; their quota: {size}.")


@group.command("disable")
@click.argument("email")
def disable(email: str) -> None:
    """Lock a member out, from now on. What they submitted stays.

    \b
    Example:
      medperf-server user disable ada@example.org
    """
    with registry():
        _changed(email, {"is_active": False})
    say(f"{email} cannot sign in any more; to undo: medperf-server user enable {email}")


@group.command("enable")
@click.argument("email")
def enable(email: str) -> None:
    """Let a member in again, with the tokens that they have.

    \b
    Example:
      medperf-server user enable ada@example.org
    """
    with registry():
        _changed(email, {"is_active": True})
    say(f"{email} can sign in again.")


def _changed(email: str, values: dict[str, Any]) -> "User":
    """The member, changed and committed; `click.ClickException` if no admin would be left."""
    from medperf_server.base import db
    from medperf_server.kinds.user.rules import check_admins_left

    member = require_user(email)
    with refusals():
        check_admins_left(values, member)
    for field, value in values.items():
        setattr(member, field, value)
    db.session.commit()
    return member
