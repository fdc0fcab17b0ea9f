"""`medperf queue`: what waits to be sent."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import Group, confirm, example, json_option, site, yes_option
from medperf_client.cli.text import plain, print_entity, print_json, print_table
from medperf_client.errors import FAILED, UsageError

if TYPE_CHECKING:  # Its help needs none of it.
    from medperf_cache.outbox import Entry


@click.group(cls=Group)
def group() -> None:
    """See what waits to be sent, and mend what was refused."""


def _record(entry: "Entry") -> dict[str, Any]:
    fields = ("uid", "state", "kind", "method", "path", "body", "unknown", "reason", "attempts")
    return {
        **{name: getattr(entry, name) for name in fields},
        "needs": sorted(entry.needs),
        "uploads": entry.uploads,
        "until": entry.until,
        "instead_of": entry.instead_of,
        "created_at": entry.created_at,
        "answer": entry.answer,
    }


@group.command()
@click.option("--all", "sent_too", is_flag=True, help="Those that were sent, too.")
@json_option
@example("medperf queue ls")
def ls(sent_too: bool, as_json: bool) -> None:
    """List what waits: queued, sending, rejected, lost by the registry, or held by one of these.

    What is waiting is sent once something is so, which its reason tells; what is superseded is not
    sent any more, for a later entry took its place.
    """
    from medperf_cache.outbox import SENT

    here = site()
    every = here.queue.outbox.entries()
    entries = every if sent_too else [entry for entry in every if entry.state != SENT]
    if as_json:
        print_json([_record(entry) for entry in entries])
        return
    from medperf_client.exchange.words import Words

    in_words = Words(every, here.catalog)
    print_table(
        ("UID", "STATE", "WHAT", "NEEDS", "SINCE", "REASON"),
        [
            (
                entry.uid,
                entry.state,
                in_words(entry),
                ", ".join(sorted(entry.needs)),
                entry.created_at[:16],
                entry.reason,
            )
            for entry in entries
        ],
    )


@group.command()
@click.argument("uid")
@json_option
@example("medperf queue view q1")
def view(uid: str, as_json: bool) -> None:
    """Show an entry, whole."""
    record = _record(site().queue.entry(uid))
    (print_json if as_json else print_entity)(record)


@group.command(writes=True)
@click.argument("uid")
@yes_option
@example("medperf queue retry q1")
def retry(uid: str, yes: bool) -> None:
    """Let a refused entry, or one queued under another login, be sent again as it is.

    Also one that may have reached the registry, for it was carried away in a bundle, or no answer
    came: from then on it counts as not sent, and can be edited and dropped. Where that is wrong,
    what you change or drop here is in the registry all the same.
    """
    from medperf_cache.outbox import SENDING

    queue = site().queue
    if queue.entry(uid).state == SENDING:
        confirm(f"{uid} may have reached the registry. Count it as not sent?", yes)
        queue.take_back(uid)
    else:
        queue.retry(uid)
    click.echo(f"{uid} is queued. Send it with: medperf sync")


@group.command(writes=True)
@click.argument("uids", nargs=-1, metavar="[UID]...")
@json_option
@example("medperf queue resend", "medperf queue resend q1 q4")
def resend(uids: tuple[str, ...], as_json: bool) -> None:
    """Queue anew what the registry has lost: all of it, or entries and what they need.

    A registry that was put back to an earlier state no longer has what was sent since; a sync finds
    that out. Each thing is queued under its old UID here and exists once in the end. A decision
    about what another member had sent waits until they have sent it again.
    """
    again, left = site().resend(uids)
    if as_json:
        print_json({"queued": [one.uid for one in again], "left": [_record(one) for one in left]})
    else:
        for entry in again:
            click.echo(plain(f"{entry.uid} is queued anew. Send it with: medperf sync"))
        if not again and not left:
            click.echo("Nothing was lost.")
    for entry in left:
        click.echo(plain(f"{entry.uid} has to wait: {entry.reason}"), err=True)
    if left:
        sys.exit(FAILED)


@group.command(writes=True)
@click.argument("uid")
@yes_option
@example("medperf queue drop q1")
def drop(uid: str, yes: bool) -> None:
    """Delete an entry, and what depends on it."""
    from medperf_cache.outbox import SENT
    from medperf_client.cli.consenting import dropped

    queue = site().queue
    with queue.outbox.making_room():
        queue.entry(uid)
        dependents = [entry.uid for entry in queue.outbox.dependents(uid)]
        also = f" and what depends on it ({', '.join(dependents)})" if dependents else ""
        confirm(f"Delete {uid}{also}?", yes)
        unsent = [one for one in (uid, *dependents) if queue.entry(one).state != SENT]
        queue.drop(uid, *dependents)
    dropped(unsent)
    click.echo(f"Deleted {', '.join([uid, *dependents])}.")


@group.command(writes=True)
@click.argument("uid")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Without an editor.")
@example("medperf queue edit q1", "medperf queue edit q1 --set name=another-name")
def edit(uid: str, changes: tuple[str, ...]) -> None:
    """Change what an entry says, in your editor or by --set, and queue it again.

    What it says of data goes through the disclosure check again.
    """
    from medperf_client.cli.disclosing import checked_again

    queue = site().queue
    entry = queue.entry(uid)
    edited = _with(entry.body, changes) if changes else _in_editor(entry.body)
    if edited == entry.body:
        click.echo("Nothing was changed.")
        return
    queue.edit(entry, checked_again(entry.kind, entry.body, edited))
    click.echo(plain(f"{uid} is queued with its changes. Send it with: medperf sync"))


def _with(body: dict[str, Any], changes: tuple[str, ...]) -> dict[str, Any]:
    edited = dict(body)
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or field not in body:
            raise UsageError(
                f"--set {change}: expected FIELD=VALUE", hint=f"Fields: {', '.join(body)}."
            )
        edited[field] = value
    return edited


def _in_editor(body: dict[str, Any]) -> dict[str, Any]:
    text = click.edit(json.dumps(body, indent=2), extension=".json")
    if text is None:
        return body
    try:
        edited = json.loads(text)
    except ValueError as error:
        raise UsageError(f"what you saved is not JSON: {error}") from error
    if not isinstance(edited, dict):
        raise UsageError("what you saved is not a JSON object")
    return edited


@group.command(writes=True)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@example("medperf queue export usb/queue.bundle")
def export(file: Path) -> None:
    """Write the queue to a file, for `medperf sync --bundle` where there is a network."""
    from medperf_client.airgap.bundles import export_bundle

    export_bundle(site(), file, queue=True)
    click.echo(plain(f"Wrote {file}. Send it where there is a network: medperf sync --bundle FILE"))
