"""`medperf sync`: send the queue, then learn what is new."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import Command, example, json_option, site
from medperf_client.cli.bundle import existing_file, require_signature_option, sign_option
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import FAILED, OK, QUEUED, MedPerfError, Offline, UsageError

if TYPE_CHECKING:  # Its help needs none of it.
    from medperf_client.exchange.listener import Listener
    from medperf_client.exchange.sync import Synced
    from medperf_client.site import Site


@click.command("sync", cls=Command, writes=lambda options: not options["dry_run"])
@click.option("--watch", is_flag=True, help="Go on until interrupted; quiet while nothing happens.")
@click.option(
    "--interval",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="Seconds between two looks of --watch.",
)
@click.option(
    "--notify",
    metavar="COMMAND",
    help="With --watch: run this for each line of news, which is on its stdin, and {} in it.",
)
@click.option(
    "--bundle",
    type=existing_file,
    metavar="FILE",
    help="Send the queue that a bundle carries, and write FILE.receipt to bring back.",
)
@click.option(
    "--receipt",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the receipt there, such as where FILE cannot be written to.",
)
@require_signature_option
@sign_option
@click.option("--dry-run", is_flag=True, help="Say what would be sent; open no connection.")
@click.option(
    "--require-online", is_flag=True, help="Exit with 3 if the registry is away; nothing is lost."
)
@json_option
@example(
    "medperf sync",
    "medperf sync --watch --interval 300",
    "medperf sync --watch --notify 'notify-send MedPerf {}'",
    "medperf sync --bundle usb/site.bundle",
)
def group(
    watch: bool,
    interval: float,
    notify: str | None,
    bundle: Path | None,
    receipt: Path | None,
    require_signature: Path | None,
    sign: Path | None,
    dry_run: bool,
    require_online: bool,
    as_json: bool,
) -> None:
    """Send what waits in the queue, then learn what is new in the registry.

    With --watch, models are run as `medperf benchmark follow` ordered, what jobs of a queue gave is
    collected, and each line of news is handed to the program of --notify. Whether that works or
    not, the watch goes on. With --json too it writes a line of JSON for each look that found
    something, and for each result.

    What the registry refuses stays in the queue with its reason, and so does what depends on it;
    see `medperf queue`. Exit code 1 says that something was refused.
    """
    if sum((watch, dry_run, bundle is not None)) > 1:
        raise UsageError("--watch, --bundle and --dry-run are given one at a time")
    if notify is not None and not watch:
        raise UsageError("--notify is for a watch", "Add: --watch")
    if bundle is None and (receipt or require_signature or sign):
        raise UsageError(
            "--receipt, --require-signature and --sign are for a bundle", "Add: --bundle FILE"
        )
    if dry_run:
        _show_waiting(as_json)
        return
    if watch:
        _watch(interval, notify, as_json)
        return
    if bundle is not None:
        sys.exit(_send(bundle, receipt, require_signature, sign, require_online, as_json))
    sys.exit(_once(require_online, as_json))


def _once(require_online: bool, as_json: bool) -> int:
    here = site()
    done = here.sync()
    if as_json:
        print_json(done.record())
    else:
        _show(done, here)
        waiting = len(here.queue.waiting())
        if not (done.sent or done.rejected or done.lost or done.news or done.stopped):
            click.echo("Nothing is new." if not waiting else f"Nothing is new; {waiting} wait.")
    return _code(done, require_online)


def _send(
    file: Path,
    receipt: Path | None,
    require_signature: Path | None,
    sign: Path | None,
    require_online: bool,
    as_json: bool,
) -> int:
    from medperf_client.airgap.bundles import receipt_beside, send_bundle
    from medperf_client.exchange.sync import Synced

    here = site()
    sending = send_bundle(here, file, receipt, require_signature, sign)
    done = Synced(sending.sent, sending.rejected, sending.stopped, [])
    if as_json:
        print_json(done.record())
    else:
        _show(done, here)
        written = receipt or receipt_beside(file)
        click.echo(plain(f"Wrote {written}: bring it back, and import it there."))
    return _code(done, require_online)


def _code(done: "Synced", require_online: bool) -> int:
    if done.stopped is not None and not isinstance(done.stopped, Offline):
        raise done.stopped
    if done.rejected:
        return FAILED
    return QUEUED if done.stopped is not None and require_online else OK


def _show(done: "Synced", here: "Site") -> None:
    _show_changes(done, here)
    if done.stopped is not None:
        click.echo(plain(f"{done.stopped}; what waits is safe"), err=True)


def _show_changes(done: "Synced", here: "Site") -> None:
    if done.sent:
        from medperf_client.exchange.words import Words

        in_words = Words([*here.queue.outbox.entries(), *done.sent], here.catalog)
        for entry in done.sent:
            uid = "" if entry.real_uid is None else f" as {entry.real_uid}"
            click.echo(plain(f"sent {entry.uid}{uid}: {in_words(entry)}"))
    for entry in done.rejected:
        click.echo(plain(f"refused {entry.uid}: {entry.reason}"))
    for entry in done.lost:
        click.echo(plain(f"lost {entry.uid}: {entry.reason}"))
    if done.lost:
        click.echo("Send it again with: medperf queue resend", err=True)
    for line in done.news:
        click.echo(plain(f"news: {line}"))


def _watch(interval: float, notify: str | None, as_json: bool) -> None:
    """One look after the other, each as if for the first time; only changes are told.

    What was left to a queue of this site's is collected, and what was approved since is run, where
    somebody ordered that.
    """
    from medperf_client.cli.following import carry_out_orders, collect_models
    from medperf_client.exchange.listener import Listener

    listener = None if notify is None else Listener(notify)
    last = ailing = deaf = stuck = ""
    with site().watching():
        while True:
            here = site(fresh=True)
            try:
                done = here.sync()
            except MedPerfError as error:
                trouble = str(error)
            else:
                trouble = str(done.stopped or "")
                if done.sent or done.rejected or done.lost or done.news:
                    if as_json:
                        print_json(done.record(), indent=None)
                    else:
                        _show_changes(done, here)
                if listener is not None:
                    deaf = _hand_on(done.news, listener, deaf)
            last = _told(trouble, last, "the registry answers again")
            stuck = _told(
                collect_models(as_json), stuck, "what was left to the queue is collected again"
            )
            ailing = _told(
                carry_out_orders(as_json), ailing, "the standing orders can be read again"
            )
            time.sleep(interval)


def _hand_on(news: Sequence[str], listener: "Listener", deaf: str) -> str:
    """Hand each line of news to a program; why it did not take the last one, if so."""
    for line in news:
        deaf = _told(listener.hear(plain(line)), deaf, "--notify works again")
    return deaf


def _told(trouble: str, before: str, mended: str) -> str:
    """Tell trouble once, and when it is over; returns the trouble there is."""
    if trouble != before:
        click.echo(plain(trouble or mended), err=True)
    return trouble


def _show_waiting(as_json: bool) -> None:
    here = site()
    entries = here.queue.waiting()
    shown: list[dict[str, Any]] = [
        {"uid": entry.uid, "state": entry.state, "kind": entry.kind, "needs": sorted(entry.needs)}
        for entry in entries
    ]
    if as_json:
        print_json(shown)
    elif not shown:
        click.echo("Nothing waits to be sent.")
    else:
        from medperf_client.exchange.words import Words

        in_words = Words(here.queue.outbox.entries(), here.catalog)
        rows = [
            (entry.uid, entry.state, in_words(entry), ", ".join(sorted(entry.needs)))
            for entry in entries
        ]
        print_table(("UID", "STATE", "WHAT", "NEEDS"), rows)
