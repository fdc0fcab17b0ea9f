"""`medperf storage`: what the local cache holds."""

import sys
import time

import click

from medperf_client.cli.base import Group, example, json_option, site
from medperf_client.cli.text import human_size, print_json, print_table

DAY_SECONDS = 86400


@click.group(cls=Group)
def group() -> None:
    """Look after the local cache."""


@group.command()
@json_option
@example("medperf storage ls")
def ls(as_json: bool) -> None:
    """List what is cached: files (blobs) and folders (trees), by content."""
    storage = site().storage
    items = sorted(storage.items(), key=lambda item: item.used)
    total = sum(item.size_bytes for item in items)
    if as_json:
        print_json(
            {
                "folder": str(storage.root),
                "bytes": total,
                "items": [
                    {"kind": i.kind, "sha256": i.digest, "bytes": i.size_bytes, "used": i.used}
                    for i in items
                ],
            }
        )
        return
    print_table(
        ("KIND", "SHA256", "SIZE", "LAST USED"),
        [
            (
                item.kind,
                item.digest,
                human_size(item.size_bytes),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used)),
            )
            for item in items
        ],
    )
    click.echo(f"{human_size(total)} in {storage.root}")


@group.command()
@click.option("--remove", is_flag=True, help="Remove what is damaged; it is fetched again.")
@json_option
@example("medperf storage verify", "medperf storage verify --remove")
def verify(remove: bool, as_json: bool) -> None:
    """Read everything again and compare it with its hash; exit code 1 if anything is damaged."""
    storage = site().storage
    damaged = list(storage.verify())
    if remove:
        for finding in damaged:
            storage.remove(finding.kind, finding.expected)
    if as_json:
        findings = [{"kind": f.kind, "expected": f.expected, "found": f.found} for f in damaged]
        print_json({"damaged": findings, "removed": remove})
    else:
        for finding in damaged:
            click.echo(f"damaged{', removed' if remove else ''}: {finding}")
        if not damaged:
            click.echo("Everything is as it was stored.")
    if damaged and not remove:
        click.echo("Remove it with: medperf storage verify --remove", err=True)
        sys.exit(1)


@group.command()
@click.option(
    "--unused-days",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    help="Remove what no command used for so many days; 0 empties the cache.",
)
@json_option
@example("medperf storage gc", "medperf storage gc --unused-days 0")
def gc(unused_days: float, as_json: bool) -> None:
    """Remove what was not used for long, and what interrupted commands left.

    Reports, profiles and the catalog stay. What is removed is fetched again when needed.
    """
    removed = site().storage.gc(unused_days * DAY_SECONDS)
    freed = sum(item.size_bytes for item in removed)
    if as_json:
        print_json({"removed": [item.digest for item in removed], "bytes": freed})
    else:
        click.echo(f"Removed {len(removed)} items, {human_size(freed)}.")
