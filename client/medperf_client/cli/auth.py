"""`medperf auth`: the member's token."""

import sys

import click

from medperf_client.cli.base import Group, example, json_option, site
from medperf_client.cli.text import plain, print_json
from medperf_client.errors import MedPerfError, Refused


@click.group(cls=Group)
def group() -> None:
    """Log in to a registry, and out."""


@group.command(writes=True)
@click.option("--token", help="The token; asked for if missing, or read from a pipe.")
@example("medperf auth login", "medperf auth login < token.txt")
def login(token: str | None) -> None:
    """Check a token with the registry and keep it.

    The registry's administrator gives it to you. Without a network it is kept unchecked.
    """
    from medperf_client.errors import Offline
    from medperf_client.exchange.sync import log_in
    from medperf_client.settings.credentials import checked

    here = site()
    url = here.profile.server_url
    if token is None:
        token = click.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else ""
        token = token or sys.stdin.readline()
    token = checked(token, "what was given")
    try:
        member = log_in(here.registry_with(token), here.catalog)
    except Offline as error:
        where = here.credentials.store(url, token)
        click.echo(plain(f"{error}. The token is kept unchecked in {where}."), err=True)
        click.echo(plain(error.hint), err=True)
        return
    except Refused as error:
        raise MedPerfError(
            f"{url} does not accept this token: {error}",
            hint="Ask the registry's administrator for a new one.",
        ) from error
    where = here.credentials.store(url, token)
    click.echo(plain(f"Logged in to {url} as {member['email']}; token in {where}."))


@group.command(writes=True)
@example("medperf auth logout")
def logout() -> None:
    """Forget the token of the active profile's registry."""
    url = site().profile.server_url
    known = site().credentials.forget(url)
    click.echo(f"Logged out of {url}." if known else f"You were not logged in to {url}.")


@group.command()
@json_option
@example("medperf auth status")
def status(as_json: bool) -> None:
    """Show who is logged in, and where."""
    here = site()
    url = here.profile.server_url
    logged_in = here.credentials.token(url) is not None
    member = here.member if logged_in else None
    if as_json:
        print_json({"server_url": url, "logged_in": logged_in, "member": member})
    elif logged_in:
        who = member["email"] if member else "a member not seen yet"
        click.echo(plain(f"Logged in to {url} as {who}."))
    else:
        click.echo(f"Not logged in to {url}. Log in with: medperf auth login")
