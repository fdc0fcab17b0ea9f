"""`medperf storage`: what the local cache holds."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import Group, Uid, example, if_given, json_option, site
from medperf_client.cli.text import human_size, plain, print_json, print_table
from medperf_client.errors import UsageError

if TYPE_CHECKING:  # Its help needs none of it.
    from medperf_cache import Storage
    from medperf_cache.errors import CorruptContent
    from medperf_cache.partials import Leftover
    from medperf_cache.shared import Summary
    from medperf_cache.storage import Item
    from medperf_client.execution.reports import Reports

DAY_SECONDS = 86400
UNUSED_DAYS = 30.0
UNITS = ("", "k", "m", "g", "t")


class Size(click.ParamType):
    """A number of bytes with a unit, decimal (GB) or binary (GiB)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([kmgt]?)(i?)b?", str(value).lower())
        if match is None:
            self.fail(f"{value!r} is no size: it is a number of bytes, 500MB, 20GiB", param, ctx)
        return int(float(match[1]) * (1024 if match[3] else 1000) ** UNITS.index(match[2]))


@click.group(cls=Group)
def group() -> None:
    """Look after the local cache."""


@group.command()
@json_option
@example("medperf storage ls")
def ls(as_json: bool) -> None:
    """List what is cached: files (blobs) and folders (trees), by content.

    Also the downloads that are unfinished (partial), by URL, what was not what its hash
    promised (rejected), which is only there to be looked at, and what containers printed in tests
    (log), by path. What shared caches have is counted, no more: it is not here.
    """
    here = site()
    storage = here.storage
    items = sorted(_items(storage, here.reports), key=lambda item: item["used"])
    total = sum(item["bytes"] for item in items)
    shared = storage.shared.summaries()
    if as_json:
        folder = {"folder": str(storage.root), "bytes": total, "items": items}
        print_json({**folder, "shared": [_summary(one) for one in shared]})
        return
    print_table(
        ("KIND", "SHA256, URL OR PATH", "SIZE", "LAST USED", "PINNED FOR"),
        [
            (
                item["kind"],
                item["sha256"] or item["url"] or item["path"],
                human_size(item["bytes"]),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(item["used"])),
                ", ".join(item["pins"]),
            )
            for item in items
        ],
    )
    logs = sum(item["bytes"] for item in items if item["kind"] == "log")
    click.echo(f"{human_size(total - logs)} in {storage.root}, {human_size(logs)} of logs")
    for one in shared:
        click.echo(plain(f"shared, only read: {one.folder}: {_state(one)}"))


@group.command()
@json_option
@example("medperf storage status")
def status(as_json: bool) -> None:
    """Tell where the cache is, whether it can be written, and how the shared caches are.

    A shared cache is one that somebody else keeps, named in the profile's shared_caches: what it
    holds is used where it lies, and never changed. What jobs of a queue read is copied to the
    shared_folder of the profile's executor.
    """
    from medperf_cache.names import IMAGE

    storage, of_jobs = site().storage, _of_jobs()
    shared = storage.shared.summaries()
    free = _free(storage.root)
    counts = {
        "blobs": len([*storage.blobs]),
        "trees": len([*storage.trees]),
        "images": len([*storage.names.items(IMAGE)]),
    }
    if as_json:
        own = {"folder": str(storage.root), "writable": storage.is_writable, "free_bytes": free}
        summaries = [_summary(one) for one in shared]
        print_json({**own, **counts, "shared": summaries, "executor": of_jobs})
        return
    state = f"{human_size(free)} are free" if storage.is_writable else "it can only be read"
    rows = [(storage.root, "your own", *counts.values(), state)]
    rows += [
        (one.folder, "shared", *(_counts(one).values()), one.trouble or "ok") for one in shared
    ]
    if of_jobs:
        files, folders, free = of_jobs["blobs"], of_jobs["trees"], of_jobs["free_bytes"]
        state = f"{human_size(free)} are free"
        rows.append((of_jobs["folder"], "for jobs", files, folders, "-", state))
    print_table(("CACHE", "WHOSE", "FILES", "FOLDERS", "IMAGES", "STATE"), rows)


@group.command(writes=True)
@json_option
@example("medperf storage share")
def share(as_json: bool) -> None:
    """Let everybody on this machine read what your cache holds, as a shared cache of theirs.

    They name its folder in the shared_caches of their profiles, or that of a copy of it. What you
    fetch later is theirs once you call this again. Nothing of your datasets or results is in it.
    """
    from medperf_cache.sharing import share

    done = share(site().storage)
    folder = done.summary.folder
    if as_json:
        closed = str(done.closed) if done.closed else None
        print_json({**_summary(done.summary), "closed": closed})
        return
    click.echo(plain(f"Shared {folder}: {_state(done.summary)}"))
    click.echo(plain(f"Others use it with: medperf profile set shared_caches '[{folder}]'"))
    if done.closed:
        said = f"Not everybody can get there: {done.closed} is closed to others. Open it with: "
        click.echo(plain(f"{said}chmod o+x {done.closed}"), err=True)


def _of_jobs() -> dict[str, Any] | None:
    """What the nodes have a copy of, if models run in a queue."""
    from medperf_client.cli.evaluating import queue_of

    queue = queue_of()
    if queue is None:
        return None
    folder = queue.executor.folder
    return {"folder": str(folder), **queue.executor.content(), "free_bytes": _free(folder)}


def _free(folder: Path) -> int:
    return disk_usage(folder).free if folder.exists() else 0


def _counts(summary: "Summary") -> dict[str, int]:
    return {name: getattr(summary, name) for name in ("blobs", "trees", "images")}


def _summary(summary: "Summary") -> dict[str, Any]:
    trouble = summary.trouble or None
    return {"folder": str(summary.folder), **_counts(summary), "trouble": trouble}


def _state(summary: "Summary") -> str:
    told = f"{summary.blobs} files, {summary.trees} folders, {summary.images} images"
    if not summary.trouble:
        return told
    return f"{told}; {summary.trouble}" if any(_counts(summary).values()) else summary.trouble


def _items(storage: "Storage", reports: "Reports") -> Iterator[dict[str, Any]]:
    from medperf_cache.partials import Partials

    for item in storage.items():
        yield _record(item, sha256=item.digest, pins=item.pins)
    for left in Partials(storage.root, storage.blobs).items():
        is_url = left.kind == "partial"
        yield _record(left, url=left.name) if is_url else _record(left, sha256=left.name)
    for log in reports.kept_logs():
        yield _record(log, path=log.name)


def _record(
    item: "Item | Leftover",
    sha256: str | None = None,
    url: str | None = None,
    path: str | None = None,
    pins: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "sha256": sha256,
        "url": url,
        "path": path,
        "bytes": item.size_bytes,
        "used": item.used,
        "pins": pins,
    }


@group.command(writes=if_given("remove"))
@click.option("--remove", is_flag=True, help="Remove what is damaged; it is fetched again.")
@click.option("--own", is_flag=True, help="Leave out the shared caches.")
@json_option
@example("medperf storage verify", "medperf storage verify --remove")
def verify(remove: bool, own: bool, as_json: bool) -> None:
    """Read everything again and compare it with its hash; exit code 1 if anything is damaged.

    What follows from other content is derived again: what an archive unpacks to, as long as the
    archive is here, and which files make up a copy of an image. Of shared caches all is read, too;
    what is damaged there is used no more, and is for those to mend who keep them.
    """
    here = site()
    with here.queue.outbox.making_room() if remove else nullcontext():
        damaged = list(here.storage.verify())
        for finding in damaged if remove else ():
            here.storage.discard(finding)
    theirs = [] if own else list(here.storage.shared.verify())
    away = [] if own else [one for one in here.storage.shared.summaries() if one.trouble]
    if as_json:
        findings = [_finding(one) for one in damaged]
        shared = [{**_finding(one), "folder": str(folder)} for folder, one in theirs]
        missing = [_summary(one) for one in away]
        whole = {"damaged": findings, "removed": remove}
        print_json({**whole, "damaged_shared": shared, "missing_shared": missing})
    else:
        for finding in damaged:
            # It may name files that containers and archives brought.
            click.echo(plain(f"damaged{', removed' if remove else ''}: {finding}"))
        for folder, finding in theirs:
            click.echo(plain(f"damaged, in the shared cache {folder}: {finding}"))
        if not damaged and not theirs:
            click.echo("Everything is as it was stored.")
    if damaged and not remove:
        click.echo("Remove it with: medperf storage verify --remove", err=True)
    if theirs:
        click.echo("Tell who keeps the shared cache: nobody else can mend it.", err=True)
    if theirs or (damaged and not remove):
        sys.exit(1)


def _finding(finding: "CorruptContent") -> dict[str, str]:
    return {"kind": finding.kind, "expected": finding.expected, "found": finding.found}


@group.command(writes=True)
@click.option(
    "--unused-days",
    type=click.FloatRange(0),
    help="Remove what no command used for so many days; 0 empties the cache.  "
    f"[default: {UNUSED_DAYS:.0f}, but not with --max-size]",
)
@click.option(
    "--max-size",
    type=Size(),
    help="Remove what was not used for longest, until the cache is no larger, such as 20GB.",
)
@json_option
@example("medperf storage gc", "medperf storage gc --max-size 20GB")
def gc(unused_days: float | None, max_size: int | None, as_json: bool) -> None:
    """Remove what was not used for long, and what interrupted commands left.

    What `medperf benchmark fetch` brought stays; so do the queue with the files that it is to
    upload, reports, profiles, the catalog, and what was made of your own data. What is removed is
    fetched again when needed. What containers printed in tests goes, too.
    """
    if unused_days is None and max_size is None:
        unused_days = UNUSED_DAYS
    here = site()
    storage = here.storage
    unused = None if unused_days is None else unused_days * DAY_SECONDS
    with here.queue.outbox.making_room():
        here.queue.outbox.keep_no_more()
        removed = storage.gc(unused, max_size)
    here.private.sweep()
    left = 0 if max_size is None else sum(item.size_bytes for item in storage.items())
    with storage.in_use(alone=True):
        room = None if max_size is None else max(0, max_size - left)
        logs = here.reports.clean_logs(unused, room)
    freed = sum(item.size_bytes for item in removed) + sum(log.size_bytes for log in logs)
    if as_json:
        record = {"removed": [item.digest for item in removed], "logs": [log.name for log in logs]}
        print_json({**record, "bytes": freed})
        return
    click.echo(f"Removed {len(removed) + len(logs)} items, {human_size(freed)}.")
    if max_size is not None and left > max_size:
        click.echo(f"{human_size(left)} are left, all pinned. See: medperf storage ls", err=True)


@group.command(writes=True)
@click.argument("benchmark", type=Uid())
@example("medperf storage unpin 1")
def unpin(benchmark: int | str) -> None:
    """Let `gc` remove what `medperf benchmark fetch` brought for a benchmark."""
    from medperf_client.execution.provisions import pin_name

    here = site()
    url = here.profile.server_url
    with here.queue.outbox.making_room():
        pins = here.storage.pins
        # By the UID that it had when it was fetched, or has by now.
        if not pins.remove(pin_name(benchmark, url)) and not pins.remove(
            pin_name(here.queue.real_uid(benchmark), url)
        ):
            raise UsageError(
                f"nothing is pinned for benchmark {benchmark}", "See: medperf storage ls"
            )
    click.echo(f"What benchmark {benchmark} needs may now be removed by: medperf storage gc")
