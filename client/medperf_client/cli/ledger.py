"""`medperf ledger`: what left this site."""

import re
import sys
from pathlib import Path
from typing import Any

import click

from medperf_client.cli.base import SHOWN, Group, example, json_option, site
from medperf_client.cli.text import human_size, plain, print_entity, print_json, print_table
from medperf_client.errors import FAILED

# Named here, so that help need not import what writes them.
FORMATS = ("html", "json", "csv")


class Noted(click.ParamType):
    """A line's number and its digest, as `ledger verify` shows them."""

    name = "noted"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        """The number, and 64 lower-case hexadecimal digits."""
        match = re.fullmatch("([1-9][0-9]{0,17}):([0-9a-fA-F]{64})", str(value))
        if match is None:
            self.fail(f"{value!r} is no line: it is a number and a SHA-256, 12:ab34…", param, ctx)
        return int(match[1]), match[2].lower()


@click.group(cls=Group)
def group() -> None:
    """See what left this site, and prove that nobody changed the record of it.

    Each request that writes to the registry, each file that is uploaded, and each bundle or dataset
    that is exported has a line here before it goes. There is a ledger for each registry.
    """


@group.command()
@click.option(
    "--limit",
    type=click.IntRange(0),
    help="Only so many of the newest; 0 for all.  [default: 50, with --json all]",
)
@json_option
@example("medperf ledger ls")
def ls(limit: int | None, as_json: bool) -> None:
    """List what left, in the order in which it did.

    Something may not have arrived: what no answer is noted of may have left, and each try has a
    line of its own.
    """
    from medperf_client.ledger.audit import row

    left = list(site().ledger.departures())
    limit = (0 if as_json else SHOWN) if limit is None else limit
    if limit and len(left) > limit:
        click.echo(f"the newest {limit} of {len(left)}; --limit 0 shows all", err=True)
        left = left[-limit:]
    if as_json:
        print_json([row(one) for one in left])
        return
    print_table(
        ("LINE", "AT", "WHAT", "SIZE", "SHA256", "ANSWER"),
        [
            (
                one.number,
                one.record["at"][:19],
                one.what,
                human_size(one.size_bytes),
                f"{one.sha256[:12]}…",
                one.outcome,
            )
            for one in left
        ],
    )


@group.command()
@click.argument("line", type=click.IntRange(1))
@click.option("--body", "only_body", is_flag=True, help="Only what left, byte by byte.")
@json_option
@example("medperf ledger view 12", "medperf ledger view 12 --body")
def view(line: int, only_body: bool, as_json: bool) -> None:
    """Show one thing that left, whole, and what came of it.

    Of a bundle or a dataset that is its list of contents, and the queue that it carried. Of a file
    that was uploaded the digest is kept.
    """
    from medperf_client.errors import UsageError
    from medperf_client.ledger.audit import record

    ledger = site().ledger
    one = ledger.departure(line)
    if not only_body:
        (print_json if as_json else print_entity)(record(ledger, one))
        return
    if as_json:
        raise UsageError("--body and --json are given one at a time")
    body = ledger.body(one)
    if body is None:
        raise UsageError(f"line {line} is about an uploaded file, of which the digest is kept")
    click.echo(body, nl=False)


@group.command()
@click.option(
    "--noted",
    type=Noted(),
    metavar="LINE:SHA256",
    help="A last line as it was noted earlier, such as on a printed page.",
)
@json_option
@example("medperf ledger verify", f"medperf ledger verify --noted 12:{'5e' * 32}")
def verify(noted: tuple[int, str] | None, as_json: bool) -> None:
    """Look at every line, and say which was changed, deleted or moved. Exit code 1 if one was.

    Who may write here can also write all of it anew. Against that, note the last line elsewhere and
    give it as --noted later.
    """
    from medperf_client.ledger import audit

    here = site()
    verdict = here.ledger.verify(noted)
    if as_json:
        print_json(audit.verdict_record(verdict))
    else:
        for finding in verdict.findings:
            click.echo(plain(finding))
        for note in verdict.notes:
            click.echo(plain(f"note: {note}"), err=True)
        if not verdict.lines and not verdict.findings:
            click.echo(plain(f"Nothing has left for {here.profile.server_url} that was noted."))
        elif not verdict.findings:
            click.echo(f"All {verdict.lines} lines are as they were written.")
        if verdict.last:
            click.echo(f"The last line: {audit.noted(verdict.last)}")
    if verdict.findings:
        sys.exit(FAILED)


@group.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="html", help="html is a page to print."
)
@click.option("--bodies", is_flag=True, help="With all that was sent itself, word for word.")
@json_option
@example(
    "medperf ledger export audit.html",
    "medperf ledger export audit.html --bodies",
    "medperf ledger export audit.csv --format csv",
)
def export(file: Path, form: str, bodies: bool, as_json: bool) -> None:
    """Write what left to a file for who audits it. Exit code 1 if the ledger was changed.

    The file is written all the same, and tells what was found; but a CSV file, which is a table.
    """
    from medperf_client.errors import UsageError
    from medperf_client.ledger import audit

    if bodies and form == "csv":
        raise UsageError("a CSV file has no bodies", hint="Use: --format html, or json")
    here = site()
    verdict = audit.export(here.ledger, here.profile.server_url, file, form, bodies)
    if as_json:
        print_json({"file": str(file), **audit.verdict_record(verdict)})
    else:
        click.echo(plain(f"Wrote {file}."))
    if verdict.findings:
        click.echo(plain(f"The ledger was changed: {'; '.join(verdict.findings)}"), err=True)
        sys.exit(FAILED)
