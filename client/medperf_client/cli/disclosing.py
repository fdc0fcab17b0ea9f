"""The disclosure check before data are told of: what holds them back, and what clears them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medperf_client.cli.base import site
from medperf_client.cli.text import plain, print_entity, print_json, print_table
from medperf_client.errors import HeldBack, Unsignable, UsageError

if TYPE_CHECKING:
    from medperf_client.disclosure.clearances import Decisions
    from medperf_client.disclosure.review import Reviewed

Function = TypeVar("Function", bound=Callable[..., Any])
SHOWN = 20
# Of a kind of entity what tells of data, and where it says what was checked of that.
DOCUMENTS = {
    "result": (("results",), "metadata"),
    "dataset": (("generated_metadata",), "user_metadata"),
    "dataset_association": (("metadata", "test_result"), "metadata"),
}


def cleared(documents: Mapping[str, Mapping[str, Any]]) -> "list[Reviewed]":
    """Documents as they may leave, each by the command that reviews it.

    Raises `HeldBack` that names every finding nobody has decided on, where the policy does not only
    warn of them.
    """
    from medperf_client.settings.policy import WARN

    here = site()
    reviewed = [here.reviewed(document) for document in documents.values()]
    found = [
        (command, one)
        for command, review in zip(documents, reviewed, strict=True)
        for one in review.open
    ]
    lines = [
        f"  {_named(command, documents)}{one.key}: {one.rule}, {one.why}"
        for command, one in found[:SHOWN]
    ]
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN} more")
    if found and here.policy.findings == WARN:
        here.tell("\n".join(["The disclosure check warns of:", *lines]))
    elif found:
        commands = list(dict.fromkeys(command for command, _ in found))
        raise HeldBack(
            "\n".join(["the disclosure check holds this back, and nothing was sent:", *lines]),
            f"See it with: medperf {'; medperf '.join(commands)}. There --redact KEY leaves a "
            "value out, and --accept KEY --because TEXT lets it be told. What holds for every "
            f"release, say in {here.home.policy_file}, see: medperf policy view",
        )
    if here.policy.release.persons > 1:
        for command, review in zip(documents, reviewed, strict=True):
            _require_signable(command, review.document)
    return reviewed


def _named(command: str, documents: Mapping[str, Any]) -> str:
    """Of which document a finding is, where there are several."""
    return f"{command.split()[-1]}, " if len(documents) > 1 else ""


def _require_signable(command: str, document: Mapping[str, Any]) -> None:
    """Raise `Unsignable` for what nobody can agree to; `command` reviews it."""
    from medperf_client.evidence.statement import document_digest

    try:
        document_digest(document, command.replace("result review ", "").replace(" review", ""))
    except Unsignable as error:
        raise Unsignable(
            str(error), f"Leave it out with: medperf {command} --redact KEY"
        ) from error


def checked_again(kind: str, before: Mapping[str, Any], edited: dict[str, Any]) -> dict[str, Any]:
    """The body of an entry of the queue that was edited, with what was checked of it now.

    What was not edited was checked before. Raises `HeldBack` for what the check finds in the rest:
    nobody can decide on what was never kept.
    """
    if kind not in DOCUMENTS:
        return edited
    where, place = DOCUMENTS[kind]
    document = _at(edited, where)
    is_same = document == _at(before, where)
    release = site().policy.release
    if release.persons > 1 and not (is_same and edited.get(place) == before.get(place)):
        raise HeldBack(
            f"two persons agreed to it as it is, and nothing was changed: {release.where}",
            "Drop the entry, and ask for what is to be sent instead.",
        )
    if not isinstance(document, dict) or is_same:
        return edited
    reviewed = site().reviewed(document)
    if reviewed.open or reviewed.redacted:
        lines = [f"  {one.key}: {one.rule}, {one.why}" for one in reviewed.open[:SHOWN]]
        raise HeldBack(
            "\n".join(
                ["the disclosure check holds the edit back, and nothing was changed:", *lines]
            ),
            "Drop the entry, decide with `medperf result review` or `medperf dataset review`, and "
            "send it anew.",
        )
    metadata = edited.get(place) if isinstance(edited.get(place), dict) else {}
    return {**edited, place: {**(metadata or {}), "disclosure": reviewed.record()}}


def _at(body: Any, where: Sequence[str]) -> Any:
    for name in where:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def check_of_stages() -> Callable[[Mapping[str, Any]], bool]:
    """What says whether a preparation calls its stages what would tell of persons.

    It tells so once. It may be called from another thread.
    """
    from medperf_client.disclosure.rules import check
    from medperf_client.settings.policy import WARN

    here = site()
    policy = here.policy
    told: set[str] = set()

    def tells_of_persons(summary: Mapping[str, Any]) -> bool:
        stages = {name.removeprefix("Stage "): one for name, one in summary["progress"].items()}
        found = check({"stages": stages}, policy.rules)
        is_held_back = bool(found) and policy.findings != WARN
        held = ", so the registry is told the status and no stages" if is_held_back else ""
        for line in [f"the preparation's {one.key}: {one.rule}, {one.why}{held}" for one in found]:
            if line not in told:
                told.add(line)
                here.tell(line)
        return is_held_back

    return tells_of_persons


# The options by which `review` notes something.
DECISIONS = ("accept", "redact", "undo")


def review_options(function: Function) -> Function:
    """The options of `review`."""
    for option in (
        click.option("--undo", multiple=True, metavar="KEY", help="Take back what was decided."),
        click.option(
            "--redact", multiple=True, metavar="KEY", help="Leave the value out, and say so."
        ),
        click.option("--because", default="", metavar="TEXT", help="Why, for those who read it."),
        click.option(
            "--accept", multiple=True, metavar="KEY", help="Let what was found be told; --because."
        ),
    ):
        function = option(function)
    return function


def review(
    what: str,
    document: Mapping[str, Any],
    is_sent: bool,
    as_json: bool,
    *,
    accept: Sequence[str],
    because: str,
    redact: Sequence[str],
    undo: Sequence[str],
    mine_only: bool = False,
    about: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> None:
    """Note what the member decides on keys of a document, then show it with its findings.

    With `mine_only` what others decided on it counts for nothing. JSON says what it is `about`.
    `left_out` are keys that others left out.
    """
    here = site()
    if bool(accept) != bool(because.strip()):
        raise UsageError("--accept and --because go together: why may it be told?")
    if accept or redact or undo:
        if is_sent:
            raise UsageError(f"{what} was sent before, as it was: nothing of it can be decided now")
        here.clearances.change(
            document,
            lambda known: _decided(document, known, accept, because, redact, undo, mine_only),
        )
    made = here.clearances.of(document)
    me = acting() if mine_only else ""
    reviewed = here.reviewed(document, tuple(one for one in made if me in ("", one.by)))
    rows, redacted = _rows(reviewed), [*left_out, *reviewed.redacted]
    if as_json:
        print_json(
            {"of": what, **(about or {})}
            | {"is_clear": not reviewed.open, "document": reviewed.document}
            | {"findings": rows, "redacted": redacted}
        )
        return
    print_entity(reviewed.document)
    click.echo()
    if rows:
        print_table(
            ("KEY", "RULE", "DECISION", "WHY"),
            [
                (one["key"], one["rule"], one["decision"], one["because"] or one["why"])
                for one in rows
            ],
        )
    for key in redacted:
        click.echo(plain(f"Left out: {key}"))
    click.echo(
        plain(f"{what}: {len(reviewed.open)} of {len(rows)} findings wait for a decision.")
        if rows
        else plain(f"{what}: nothing was found.")
    )


def _rows(reviewed: "Reviewed") -> list[dict[str, Any]]:
    open_, none = ({"decision": "open"}, {"because": "", "by": "", "at": ""})
    return [
        *({**one.record(), **none, **open_} for one in reviewed.open),
        *(
            {**one.record(), "because": made.because, "by": made.by, "at": made.at}
            | {"decision": "accepted"}
            for one, made in reviewed.accepted
        ),
        *(
            {**one.record(), **none, "because": because, "decision": "allowed by policy"}
            for one, because in reviewed.allowed
        ),
    ]


def _decided(
    document: Mapping[str, Any],
    known: "Decisions",
    accept: Sequence[str],
    because: str,
    redact: Sequence[str],
    undo: Sequence[str],
    mine_only: bool,
) -> "Decisions":
    """What is decided on a document from now on. Raises `UsageError` for keys that it has not."""
    from medperf_client.disclosure.documents import tree
    from medperf_client.disclosure.review import Decision, review

    rules = site().policy.rules
    now, member = _now(), acting()
    others = tuple(one for one in known if mine_only and one.by != member)
    known = tuple(one for one in known if one not in others)
    gone = {key for pattern in undo for key in _chosen(pattern, [one.key for one in known], "undo")}
    kept = [one for one in known if one.key not in gone]
    keys = [node.key for node in tree(document).all() if node.above is not None]
    left_out = {key for pattern in redact for key in _chosen(pattern, keys, "redact")}
    kept = [one for one in kept if one.key not in left_out]
    kept += [Decision(key, now, member) for key in keys if key in left_out]
    # What is left out may make other keys tell something, so that comes first.
    found = review(document, rules, tuple(kept)).open
    for pattern in accept:
        for key in _chosen(pattern, [one.key for one in found], "accept"):
            kept += [
                Decision(key, now, member, one.rule, because.strip())
                for one in found
                if one.key == key
            ]
    return (*others, *kept)


def _chosen(pattern: str, keys: list[str], verb: str) -> list[str]:
    """The keys that a pattern names. Raises `UsageError` if it names none."""
    from medperf_client.disclosure.documents import matches

    chosen = list(dict.fromkeys(key for key in keys if key == pattern or matches(key, pattern)))
    if not chosen:
        known = list(dict.fromkeys(keys))
        shown = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
        raise UsageError(
            f"there is nothing to {verb} at {pattern!r}",
            hint=f"There is: {shown}" if known else "Nothing there waits for a decision.",
        )
    return chosen


def _now() -> str:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def acting() -> str:
    """Who decides, as the registry knows them; else as this machine does."""
    import getpass

    member = site().member or {}
    return str(member.get("email") or member.get("username") or getpass.getuser())
