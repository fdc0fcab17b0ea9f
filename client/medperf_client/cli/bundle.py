"""`medperf bundle`: carry the cache, the catalog and the queue where no network leads."""

from pathlib import Path
from typing import Any

import click

from medperf_client.cli.base import Group, example, json_option, site
from medperf_client.cli.text import human_size, plain, print_entity, print_json

file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
sign_option = click.option(
    "--sign",
    type=existing_file,
    metavar="KEYFILE",
    help="Sign what is written with this Ed25519 key (PEM).",
)
require_signature_option = click.option(
    "--require-signature",
    type=existing_file,
    metavar="PUBKEYFILE",
    help="Take a bundle only if the owner of this Ed25519 public key (PEM) signed it.",
)


@click.group(cls=Group)
def group() -> None:
    """Carry the cache, the catalog and the queue in a file, where no network leads."""


@group.command("export", writes=True)
@file_argument
@click.option(
    "--benchmark", type=click.IntRange(1), help="Only what this benchmark and its models need."
)
@click.option("--queue", is_flag=True, help="What waits to be sent; alone, unless --benchmark too.")
@click.option(
    "--since",
    type=existing_file,
    metavar="BUNDLE",
    help="Leave out the files that an earlier bundle brought to the other side.",
)
@sign_option
@json_option
@example(
    "medperf bundle export usb/benchmark-1.bundle --benchmark 1",
    "medperf bundle export usb/queue.bundle --queue",
)
def export(
    file: Path,
    benchmark: int | None,
    queue: bool,
    since: Path | None,
    sign: Path | None,
    as_json: bool,
) -> None:
    """Write a bundle. It holds what is in the cache; no connection is opened.

    Without --benchmark and --queue that is everything, for another machine of yours: also what only
    you may see of the registry. A benchmark's bundle is for others, too. None carries data, labels
    or predictions: see `medperf dataset export`. Results of steps go along only with --sign: nobody
    could verify them, and the other side takes your word. Those on your own data stay here.

    A queue is sent on another machine with `medperf sync --bundle`, by you: the same member must
    be logged in there, because what the registry knows of a submission belongs to a member. Bring
    the receipt back and import it. Until then its entries cannot be edited or dropped, but after
    `medperf queue retry`, which is for a bundle that is not to be sent; to sync here meanwhile is
    safe, and sends nothing twice.

    A key is made by `openssl genpkey -algorithm ed25519 -out key.pem`; others check with what
    `openssl pkey -in key.pem -pubout -out key.pub.pem` writes.
    """
    from medperf_client.airgap.bundles import export_bundle

    head = export_bundle(site(), file, benchmark, queue, since, sign)
    record = _record(file, head)
    if as_json:
        print_json(record)
        return
    left_out = f", {record['left_out']} left out" if record["left_out"] else ""
    click.echo(
        plain(
            f"Wrote {file}: {record['files']} files, {record['folders']} folders{left_out}, "
            f"{human_size(record['file_bytes'])}."
        )
    )


@group.command("import", writes=True)
@click.argument("file", type=existing_file)
@require_signature_option
@json_option
@example("medperf bundle import usb/benchmark-1.bundle")
def import_(file: Path, require_signature: Path | None, as_json: bool) -> None:
    """Take what a bundle or a receipt holds. No connection is opened.

    All of it is verified first: a damaged bundle changes nothing. What is newer here stays. Who
    made it is certain only with --require-signature: without, no results of steps are taken, and
    nothing that is known here gets other content. What it says of the registry counts until the
    next sync.
    """
    from medperf_client.airgap.bundles import import_bundle

    done = import_bundle(site(), file, require_signature)
    settled = [
        {"uid": entry.uid, "state": entry.state, "as": entry.real_uid, "reason": entry.reason}
        for entry in done.settled
    ]
    record = {
        **_record(file, done.head),
        "entities_changed": done.changed,
        "settled": settled,
        "unsent": done.unsent,
        "missing": done.missing,
        "results": done.results,
        "kept": done.kept,
    }
    if as_json:
        print_json(record)
        return
    click.echo(
        plain(
            f"Imported {file}: {record['files']} files, {record['folders']} folders; "
            f"{done.changed} entities of the registry changed."
        )
    )
    for entry in done.settled:
        uid = "" if entry.real_uid is None else f" as {entry.real_uid}"
        click.echo(plain(f"{entry.state} {entry.uid}{uid} {entry.reason}".rstrip()))
    if done.unsent:
        click.echo(plain(f"Its queue is sent with: medperf sync --bundle {file}"), err=True)
    if done.unsigned:
        click.echo(
            "Its results of steps were not taken, for nobody vouches for them here: ask for a "
            "signed bundle, and import it with --require-signature.",
            err=True,
        )
    for entity in done.kept:
        click.echo(
            plain(f"{entity} stays as it is: the bundle gives it other content, unsigned"), err=True
        )
    if done.missing:
        click.echo(
            f"{len(done.missing)} files or folders that it leaves out are not here: import the "
            "bundle first that was given to --since.",
            err=True,
        )


@group.command()
@click.argument("file", type=existing_file)
@json_option
@example("medperf bundle view usb/benchmark-1.bundle")
def view(file: Path, as_json: bool) -> None:
    """Show what a bundle says it holds; nothing is verified."""
    from medperf_cache.bundle import read_head

    record = _record(file, read_head(file))
    (print_json if as_json else print_entity)(record)


def _record(file: Path, head: Any) -> dict[str, Any]:
    manifest = head.manifest
    return {
        "id": head.id,
        **manifest.about,
        "signed": head.signature is not None,
        "documents": sorted(manifest.documents),
        "files": len(manifest.blobs),
        "folders": len(manifest.trees),
        "left_out": len(manifest.left_out),
        "bytes": manifest.size_bytes,
        "file_bytes": file.stat().st_size,
    }
