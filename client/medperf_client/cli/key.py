"""`medperf key`: keys that sign what you release."""

import sys
from pathlib import Path
from typing import Any

import click

from medperf_client.cli.base import (
    Group,
    Uid,
    confirm,
    example,
    json_option,
    mine_option,
    online_option,
    site,
    yes_option,
)
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import QUEUED, Refused, UsageError


@click.group(cls=Group)
def group() -> None:
    """Make keys that sign the results you release, and see those of others."""


@group.command(writes=True)
@click.option("--name", default="", help="What you call it, at most 20 characters.")
@click.option("--another", is_flag=True, help="Although this machine has one already.")
@online_option
@json_option
@example("medperf key create --name workstation")
def create(name: str, another: bool, require_online: bool, as_json: bool) -> None:
    """Make a key (Ed25519) on this machine, and register its public half.

    From then on every result you release here is signed. The private half never leaves this
    machine. Tell the committee the key's fingerprint by another way than the registry: then they
    need not take the registry's word for whose it is.
    """
    from medperf_cache.outbox import SENT
    from medperf_client.kinds.key import key_submission

    here = site()
    known = here.signing_key()
    if known and not another:
        raise UsageError(
            f"this machine has a key already: {known.keyid}", "Make one more with --another."
        )
    made = here.keys.create()
    try:
        entry = here.submit(key_submission(name, made.public_key))
    except Refused:
        here.keys.forget(made)
        raise
    is_sent = entry.state == SENT
    if as_json:
        waits = {} if is_sent else {"queued": entry.state}
        shown = {"id": entry.real_uid or entry.uid, "keyid": made.keyid, "file": str(made.file)}
        print_json({**shown, **waits})
    else:
        what = f"Registered key {entry.real_uid}" if is_sent else f"Queued the key as {entry.uid}"
        click.echo(plain(f"{what}. Its fingerprint: {made.keyid}"))
        click.echo(plain(f"The private key is in {made.file}"), err=True)
    if require_online and not is_sent:
        sys.exit(QUEUED)


@group.command()
@mine_option
@json_option
@example("medperf key ls --mine")
def ls(mine: bool, as_json: bool) -> None:
    """List the keys in the registry; HERE says that this machine can sign with one."""
    from medperf_client.kinds.key import KEY

    here = site()
    here.freshen()
    ours = set(here.keys.ids())
    found = [{**one, "here": _keyid(one) in ours} for one in here.listed(KEY.name, mine)]
    if as_json:
        print_json(found)
        return
    print_table(
        ("UID", "FINGERPRINT", "NAME", "OWNER", "HERE", "REVOKED"),
        [
            (
                one["id"],
                _keyid(one),
                one.get("name"),
                one.get("owner"),
                "yes" if one["here"] else "no",
                str(one.get("revoked_at") or "-")[:16],
            )
            for one in found
        ],
    )


def _keyid(key: dict[str, Any]) -> str:
    """The fingerprint of a key, also of one that the registry has not seen yet."""
    from medperf_client.evidence.keys import public_key

    return str(key.get("keyid") or public_key(key["public_key"], "a key in the queue").keyid)


@group.command()
@click.argument("fingerprint", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here.")
@example("medperf key export -o north.pub.pem", "medperf key export 7f3a")
def export(fingerprint: str | None, output: Path | None) -> None:
    """Write the public half of a key of this machine (PEM), to be handed to whoever verifies."""
    here = site()
    pair = here.keys.get(fingerprint) if fingerprint else here.signing_key()
    if pair is None:
        raise UsageError("this machine has no key", hint="Make one with: medperf key create")
    if output is None:
        click.echo(pair.public_key, nl=False)
        return
    if output.exists():
        raise UsageError(f"{output} is there already", "Delete it, or name another file.")
    output.write_text(pair.public_key, encoding="ascii")
    click.echo(plain(f"Wrote {output}: the public key {pair.keyid}"), err=True)


@group.command(writes=True)
@click.argument("uid", type=Uid())
@yes_option
@online_option
@json_option
@example("medperf key revoke 2")
def revoke(uid: int | str, yes: bool, require_online: bool, as_json: bool) -> None:
    """Say that a key of yours is good for nothing new, for good: it was lost, or stolen.

    What it signed before stays signed, and is shown with the time of the revocation.
    """
    from medperf_cache.outbox import SENT
    from medperf_client.kinds.key import KEY, key_revocation

    here = site()
    key = here.entity(KEY.name, uid)
    # What waits to be registered is the member's.
    if not key.get("queued") and not here.is_mine(key):
        raise UsageError(f"key {uid} is not yours", hint="See: medperf key ls --mine")
    confirm(f"Revoke key {uid} ({_keyid(key)})? There is no way back.", yes)
    entry = here.submit(key_revocation(here.queue.reference(uid)))
    is_sent = entry.state == SENT
    shown: dict[str, Any] = {"id": uid, "keyid": _keyid(key)}
    if as_json:
        print_json({**shown, **({} if is_sent else {"queued": entry.state})})
    else:
        click.echo(f"Key {uid} is revoked." if is_sent else f"Queued as {entry.uid}.")
    if require_online and not is_sent:
        sys.exit(QUEUED)
