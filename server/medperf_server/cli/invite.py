"""`medperf-server invite`: links that admit whoever opens them, once."""

import json

import click

from medperf_server.cli.base import (
    UID,
    json_option,
    registry,
    require_address,
    require_row,
    say,
    show,
)


@click.group()
def group() -> None:
    """Links that admit new members, in their browser."""


@group.command("create")
@click.argument("email")
@click.option("--admin", is_flag=True, help="May approve benchmarks and manage members.")
@click.option("--benchmark", type=UID, help="UID of a private benchmark to show them.")
@click.option(
    "--days", type=click.IntRange(1, 365), default=7, show_default=True, help="How long it holds."
)
@click.option("--url", help="Where browsers find the registry; else MEDPERF_URL.")
@click.option("--quiet", is_flag=True, help="Print the link and nothing else.")
@json_option
def create(
    email: str,
    admin: bool,
    benchmark: int | None,
    days: int,
    url: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print a link that makes whoever opens it a member. It is shown this once.

    \b
    Example:
      medperf-server invite create ada@example.org --url https://registry.example.org
    """
    from medperf_server import invitations
    from medperf_server.base import db
    from medperf_server.config import public_url
    from medperf_server.kinds.benchmark.table import Benchmark

    with registry() as app:
        # Before the invitation is made, whose link is shown once.
        try:
            root = public_url(app.config["URL"]) if url is None else public_url(url, "--url")
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        require_address(email)
        if benchmark is not None and db.session.get(Benchmark, benchmark) is None:
            raise click.BadParameter(f"There is no benchmark {benchmark}")
        invitation, secret = invitations.create(email, admin, benchmark, days=days)
        uid = invitation.id
        db.session.commit()
    link = f"{root}/invitations/{secret}"
    if as_json:
        click.echo(json.dumps({"id": uid, "email": email, "link": link}))
        return
    if not quiet:
        say(f"Whoever opens this is {email}; it is shown this once:")
    click.echo(link)


@group.command("ls")
@json_option
def ls(as_json: bool) -> None:
    """List the invitations: open, accepted, expired and revoked ones.

    \b
    Example:
      medperf-server invite ls
    """
    from sqlalchemy import select

    from medperf_server.base import db
    from medperf_server.models import Invitation

    times = ("created_at", "expires_at", "accepted_at", "revoked_at")
    with registry():
        rows = db.session.scalars(select(Invitation).order_by(Invitation.id))
        show(rows, ("id", "email", "is_admin", "benchmark", *times), as_json)


@group.command("revoke")
@click.argument("invitation_id", type=UID)
def revoke(invitation_id: int) -> None:
    """Make an invitation worthless. INVITATION_ID is in `invite ls`.

    \b
    Example:
      medperf-server invite revoke 3
    """
    from medperf_server.base import db, utc_now
    from medperf_server.models import Invitation

    with registry():
        row = require_row(Invitation, invitation_id, "invitation", "invite")
        if row.accepted_at:
            raise click.ClickException(
                f"{row.email} has accepted it; medperf-server user disable {row.email} locks "
                "them out"
            )
        row.revoked_at = row.revoked_at or utc_now()
        db.session.commit()
        click.echo(f"Invitation {invitation_id} is revoked.", err=True)
