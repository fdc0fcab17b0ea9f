"""Looking after a registry: check it, back it up, restore it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from medperf_server.cli.base import application, json_option, plain, registry, say

TOLD_EVERY_BYTES = 256 << 20


@click.command()
@click.option("--deep", is_flag=True, help="Read every stored file, and compare its SHA-256.")
@json_option
def check(deep: bool, as_json: bool) -> None:
    """Tell what is wrong with this installation, and how to mend it. Exits with 1 if something is.

    \b
    Example:
      medperf-server check --deep
    """
    from medperf_server.checks import check as findings

    with application():
        found = []
        for finding in findings(deep):
            found.append(finding)
            if not as_json:
                wrong = f"WRONG  {finding.what}: {finding.trouble}"
                line = wrong if finding.trouble else f"ok     {finding.what}"
                click.echo(plain(line, kept="\n"))
    if as_json:
        records = [{"what": one.what, "trouble": one.trouble or None} for one in found]
        click.echo(json.dumps(records))
    if any(one.trouble for one in found):
        sys.exit(1)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def backup(file: Path, as_json: bool) -> None:
    """Write the database and all stored files to FILE, while the registry is served.

    FILE has what is needed to be this registry, digests of tokens included: keep it safe.

    \b
    Example:
      medperf-server backup /mnt/backups/registry.backup
    """
    from medperf_server.backup import Refused, back_up

    with registry():
        try:
            manifest = back_up(file, _told("copied"))
        except (Refused, OSError) as error:
            raise click.ClickException(str(error)) from error
    made = {"file": str(file), "files": len(manifest.stored), "lost": manifest.lost}
    if as_json:
        click.echo(json.dumps(made))
    else:
        click.echo(f"{file} holds the database and {len(manifest.stored)} files.", err=True)
    if manifest.lost:
        lost = ", ".join(manifest.lost)
        raise click.ClickException(f"Not in it, for the store has lost them: {lost}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Even if there is a registry here; it is kept aside.")
def restore(file: Path, replace: bool) -> None:
    """Make this installation the registry that FILE, a backup, holds. Stop serving first.

    All of FILE is verified before anything is touched; one of an older version is migrated.

    \b
    Example:
      medperf-server restore /mnt/backups/registry.backup
    """
    from medperf_server.backup import Damaged, Refused
    from medperf_server.backup import restore as put_back

    with application():
        try:
            manifest = put_back(file, replace, _told("verified"), say)
        except Damaged as error:
            raise click.ClickException(f"{file}: {error}. Nothing was changed.") from error
        except (Refused, OSError) as error:
            raise click.ClickException(f"{error}. Nothing was changed.") from error
    say(f"Restored the registry of {manifest.created_at}.")


@click.command("renew-links")
def renew_links() -> None:
    """Make worthless every link to a file that needs no token, if one got into wrong hands.

    Entities have new ones from then on. To end those of one file, give it up or make what names it
    private.

    \b
    Example:
      medperf-server renew-links
    """
    from medperf_server.assets.sharing import renew_links as renew
    from medperf_server.base import db

    with registry():
        count = renew()
        db.session.commit()
    say(f"Links of before are worthless; {count} entities have new ones.")


def _told(done: str) -> Callable[[int], None]:
    """Says now and then how many bytes are done."""
    copied = told = 0

    def progress(count: int) -> None:
        nonlocal copied, told
        copied += count
        if copied - told >= TOLD_EVERY_BYTES:
            told = copied
            click.echo(f"{done} {copied >> 20} MiB", err=True)

    return progress
