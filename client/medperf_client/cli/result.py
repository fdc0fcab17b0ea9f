"""`medperf result`: what models gave on your data, and what of it you release."""

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import (
    Group,
    Uid,
    confirm,
    example,
    if_given,
    json_option,
    mine_option,
    online_option,
    site,
    yes_option,
)
from medperf_client.cli.consenting import agreement, sent, waiting_for, waiting_words
from medperf_client.cli.disclosing import DECISIONS, cleared, review_options
from medperf_client.cli.evaluating import (
    end,
    evaluated,
    model_option,
    run_options,
    tell_outcomes,
)
from medperf_client.cli.own import statuses_in_benchmarks
from medperf_client.cli.text import plain, print_entity, print_json, print_table
from medperf_client.cli.views import show, view_options
from medperf_client.errors import FAILED, QUEUED, MedPerfError, UsageError

if TYPE_CHECKING:
    from medperf_cache.outbox import Entry
    from medperf_client.consent.standing import Standing
    from medperf_client.evidence.keys import Pair
    from medperf_client.evidence.verify import Check
    from medperf_client.execution.results import Result

# Named here, so that help need not import what writes them.
FORMATS = ("rocrate", "csv", "json")
OURS = {"uid", "local_outputs", "waits"}
of_benchmark = click.option("-b", "--benchmark", type=Uid(), help="Only those in this benchmark.")


@click.group(cls=Group)
def group() -> None:
    """See what models gave on your data, and release it."""


@group.command()
@mine_option
@click.option("--unregistered", is_flag=True, help="Only those here that were not released.")
@of_benchmark
@json_option
@example("medperf result ls", "medperf result ls -b 1 --json")
def ls(mine: bool, unregistered: bool, benchmark: int | str | None, as_json: bool) -> None:
    """List the results of this site, and those in the registry that you may see."""
    site().freshen()
    found = _all(benchmark)
    if mine:
        found = [one for one in found if "uid" in one or site().is_mine(one)]
    if unregistered:
        found = [one for one in found if one["registered"] is None]
    if as_json:
        print_json(found)
        return
    print_table(
        ("UID", "BENCHMARK", "MODEL", "DATASET", "REGISTERED", "WAITS"),
        [
            (
                one.get("uid") or one["id"],
                one["benchmark"],
                one["model"],
                one["dataset"],
                one["registered"],
                one.get("waits"),
            )
            for one in found
        ],
    )


def _all(benchmark: int | str | None) -> list[dict[str, Any]]:
    """This site's results, then the registry's that are of others, or were released elsewhere."""
    here = site()
    if benchmark is not None:
        learn(benchmark)
    waiting = {entry.uid: entry for entry in here.queue.waiting()}
    ours = []
    for one in here.results.all():
        entry = waiting.get(one.entry or "")
        waits = {"waits": entry.reason or entry.state} if entry else waiting_for(subject_of(one))
        ours.append({**one.record(), "registered": one.released, **waits})
    released = {one["registered"] for one in ours}
    # What only this site's own results have, no registry says.
    others = [
        {**{name: one[name] for name in one.keys() - OURS}, "registered": one["id"]}
        for one in here.catalog.all("result")
        if one["id"] not in released
    ]
    real = None if benchmark is None else here.queue.real_uid(benchmark)
    return [one for one in [*ours, *others] if real in (None, one["benchmark"])]


def learn(benchmark: int | str) -> None:
    """Ask a registry that keeps no change log for the results of a benchmark of one's own."""
    from medperf_client.kinds.result import RESULT

    here = site()
    if here.offline or here.catalog.cursor or not isinstance(benchmark, int):
        return
    try:
        for one in here.registry.pages(f"/benchmarks/{benchmark}/results/"):
            here.catalog.put(RESULT.name, RESULT.checked(one))
    except MedPerfError as error:
        here.tell(f"the results of others in benchmark {benchmark} cannot be had: {error}")


@group.command()
@click.argument("uid", required=False)
@of_benchmark
@view_options
@example("medperf result view b1m4d3", "medperf result view 7 --format yaml")
def view(uid: str | None, benchmark: int | str | None, **options: Any) -> None:
    """Show a result: a local UID such as b1m4d3, or that of the registry."""
    here = site()
    here.freshen()
    found = _all(benchmark)
    if uid is not None:
        wanted = here.results.get(uid).uid if re.match("b[q0-9]", uid) else uid
        found = [one for one in found if wanted in (one.get("uid"), str(one["registered"]))]
        if not found:
            raise UsageError(f"there is no result {uid}", hint="See: medperf result ls")
    whole = [_with_folders(one) for one in found]
    show(
        [{"id": one.get("registered") or one.get("uid"), **one} for one in whole],
        bool(uid),
        **options,
    )


def _with_folders(result: dict[str, Any]) -> dict[str, Any]:
    """A result with the files that metrics wrote for this site alone."""
    digest = result.get("local_outputs")
    if not digest or digest not in site().private.trees:
        return result
    root = site().private.trees.path(digest)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {**result, "local_outputs": {"folder": str(root), "files": ", ".join(files)}}


@group.command()
@click.argument("uid")
@click.option(
    "--key",
    "given",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="The site's public key, as it gave it to you: the registry is not asked for it. Once for "
    "each who signed.",
)
@json_option
@example("medperf result verify 7", "medperf result verify 7 --key north.pub.pem")
def verify(uid: str, given: tuple[Path, ...], as_json: bool) -> None:
    """Verify who signed a result, and agreed to it, that nothing was changed since, what it is of.

    Takes a registry's UID, or a local one such as b1m4d3 that was released. What is said of
    benchmark, dataset and containers is compared with what is known of them here, also offline.
    Without --key the registry says whose key it is: compare its fingerprint with the site.
    Exits with 1 unless all holds, also where something could not be checked.
    """
    from medperf_client.evidence.keys import public_key
    from medperf_client.evidence.statement import keyid_of
    from medperf_client.evidence.verify import verified
    from medperf_client.files import read_text
    from medperf_client.kinds.key import KEY
    from medperf_client.kinds.result import STATEMENT, said_of

    here = site()
    here.freshen()
    result = here.entity("result", Uid().convert(_released(uid), None, None))
    envelope = said_of(result).get(STATEMENT)
    if envelope is None:
        raise MedPerfError(f"result {result['id']} is not signed", "Nobody vouches for it.")
    keyid = keyid_of(envelope)
    known = {one["keyid"]: one for one in here.catalog.all(KEY.name)}
    if given:
        texts = [
            read_text(file, "public key", "PEM is needed: medperf key export") for file in given
        ]
        named = {
            public_key(text, str(file)).keyid: text for text, file in zip(texts, given, strict=True)
        }
        keys = {one: {"keyid": one, "public_key": text} for one, text in named.items()}
        # A single key that did not sign it is told by what it verifies.
        pem = named.get(keyid, texts[0])
    else:
        keys = known
        if known.get(keyid, {}).get("owner", 0) != result.get("owner"):
            raise MedPerfError(
                f"result {result['id']} is signed with {keyid}, which is no key of who sent it",
                "Ask the site for its public key, and give it with --key.",
            )
        pem = known[keyid]["public_key"]
    checks = verified(result, envelope, pem, here.catalog.get, keys.get)
    said = known.get(keyid, {})
    holds = all(one.holds for one in checks)
    if as_json:
        about = {"result": result["id"], "keyid": keyid, "revoked_at": said.get("revoked_at")}
        print_json({**about, "verified": holds, "checks": [asdict(one) for one in checks]})
    else:
        print_table(
            ("WHAT", "HOLDS", "WHY"),
            [(one.what, _HOLDS[one.holds], one.why) for one in checks],
        )
        click.echo(plain(f"Key: {keyid}{_since(said)}"))
        click.echo(plain(f"Result {result['id']} is {_outcome(checks, result['benchmark'])}."))
    if not holds:
        sys.exit(FAILED)


def _outcome(checks: "list[Check]", benchmark: Any) -> str:
    """What came of all checks, in words; of what was not checked, also what helps."""
    if any(one.holds is False for one in checks):
        return "NOT what was signed"
    unknown = [one.what for one in checks if one.holds is None]
    if not unknown:
        return "verified"
    bring = [f"medperf benchmark fetch {benchmark}"] if {*unknown} - {"agreed"} else []
    bring += ["--key with the key of who agreed"] if "agreed" in unknown else []
    helps = ", or ".join(["medperf sync", *bring])
    what = f"not all could be checked ({', '.join(unknown)})"
    return f"not verified: {what}; what lacks comes with {helps}"


def _released(uid: str) -> int | str:
    """The registry's UID of a result, which may be known by its local one.

    Raises `UsageError` for one that was not released, or waits to be.
    """
    if not re.match("b[q0-9]", uid):
        return uid
    result = site().results.get(uid)
    if result.released is None and site().queue.outbox.find(result.entry or ""):
        raise UsageError(f"{uid} waits in the queue as {result.entry}", "First: medperf sync")
    if result.released is None:
        raise UsageError(
            f"{uid} was not released, which is when it would be signed",
            f"First: medperf result submit -r {uid}",
        )
    return result.released


_HOLDS = {True: "yes", False: "NO", None: "unknown"}


def _since(key: dict[str, Any]) -> str:
    revoked = key.get("revoked_at")
    return f", revoked since {str(revoked)[:16]}" if revoked else ""


@group.command(writes=True)
@click.option("-b", "--benchmark", type=Uid(), required=True, help="UID of the benchmark.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="rocrate is a zip archive with all of it, csv a table of figures.",
)
@click.option(
    *("-o", "--output"),
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write, in place of an earlier one.",
)
@click.option(
    "--license",
    "license_url",
    default="",
    metavar="URL",
    help="Under which others may use a crate, such as https://spdx.org/licenses/CC-BY-4.0",
)
@json_option
@example(
    "medperf result export -b 1 -o results.zip",
    "medperf result export -b 1 --format csv -o results.csv",
)
def export(benchmark: int | str, form: str, output: Path, license_url: str, as_json: bool) -> None:
    """Write the released results of a benchmark, those that you may see, to a file for others.

    They go as the copy of the registry has them, and what that lacks is told. An RO-Crate has the
    results with what their sites signed of them, the keys to verify it, and what the registry knows
    of benchmark, containers and datasets; so has JSON. CSV has a row for each figure. None says
    whose a dataset is, but what a site signed where two persons release. The file has its line in
    the ledger before it is written.
    """
    from medperf_client.publishing.collection import collected
    from medperf_client.publishing.writing import ROCRATE
    from medperf_client.publishing.writing import export as written

    here = site()
    if license_url:
        _require_license(license_url, form == ROCRATE)
    if form == ROCRATE and output.suffix != ".zip":
        # What reads crates takes no other.
        raise UsageError(
            "an RO-Crate is a zip archive", hint=f"Use: --output {output.with_suffix('.zip')}"
        )
    here.freshen()
    real = here.queue.real_uid(benchmark)
    if not isinstance(real, int):
        raise UsageError(f"benchmark {benchmark} waits in the queue: it has no results yet")
    learn(real)
    collection = collected(here.catalog, here.profile.server_url, real)
    with here.storage.scratch() as folder:
        told = written(collection, form, output, here.ledger, folder, license_url)
    if as_json:
        count = len(collection.results)
        about = {"file": str(output), "format": form, "benchmark": real, "results": count}
        print_json({**about, **told, "lacks": collection.lacks})
        return
    for line in collection.lacks:
        here.tell(f"not in it: {line}")
    click.echo(plain(f"Wrote {len(collection.results)} results to {output}."))


def _require_license(url: str, has_license: bool) -> None:
    from medperf_client.urls import split

    if not has_license:
        raise UsageError("--license is of an RO-Crate", hint="Use: --format rocrate")
    try:
        split(url)
    except ValueError as error:
        raise UsageError(f"--license {url!r} is no URL: {error}") from error


@group.command()
@run_options(model_option)
@json_option
@example("medperf result create -b 1 -d 3 -m 4")
def create(model: int | str, as_json: bool, **options: Any) -> None:
    """Run one model of a benchmark on a dataset. Nothing is sent."""
    outcomes = evaluated(models=[model], **options)
    tell_outcomes(outcomes, as_json)
    end(outcomes)


@group.command(writes=if_given("approve", "returned", "withdraw", *DECISIONS))
@click.argument("uid", required=False)
@review_options
@click.option("--approve", is_flag=True, help="Agree to what another member asks to release.")
@click.option("--return", "returned", metavar="TEXT", help="Do not agree, and say why.")
@click.option("--withdraw", is_flag=True, help="Ask for it no more.")
@yes_option
@json_option
@example(
    "medperf result review b1m4d3",
    'medperf result review b1m4d3 --accept label_counts.rare --because "Public data"',
    "medperf result review b1m4d3 --redact age.min --redact age.max",
    "medperf result review",
    "medperf result review r0123456789ab --approve",
)
def review(
    uid: str | None,
    approve: bool,
    returned: str | None,
    withdraw: bool,
    yes: bool,
    as_json: bool,
    **decisions: Any,
) -> None:
    """Show a result with what the disclosure check finds in it, and decide on that.

    A KEY is as it is shown, such as per_class[2].support; `*` stands for any characters. What you
    leave out is replaced by the word "redacted". The reason for what you accept goes along with the
    result, your name does not. To leave a count out may let it follow from a total: look again.

    Where the site's policy has two persons release, others find what you submit without a UID: each
    request has one such as r0123456789ab. They decide on its findings themselves, and then
    --approve or --return it. Nobody sees what the other one accepted before both have decided.
    """
    from medperf_client.cli.consenting import list_requests, review_request
    from medperf_client.cli.disclosing import review as reviewed

    is_verdict = approve or withdraw or returned is not None
    if uid is None:
        if is_verdict or any(decisions.values()):
            raise UsageError("which one?", hint="See: medperf result review")
        list_requests(as_json)
        return
    if re.match("r[0-9a-f]", uid):
        decisions |= {"approve": approve, "returned": returned, "withdraw": withdraw}
        review_request(uid, as_json, yes, **decisions)
        return
    if is_verdict:
        raise UsageError(
            f"a verdict is on what another member asks for, and {uid} is your own",
            hint="See: medperf result review",
        )
    one = site().results.get(uid)
    reviewed(one.uid, one.results, is_released(one), as_json, **decisions)


@group.command(writes=True)
@click.option("-r", "--result", "uid", help="Local UID of a result, such as b1m4d3.")
@click.option("--all", "every", is_flag=True, help="All of a benchmark, or a dataset, or both.")
@click.option("-b", "--benchmark", type=Uid(), help="With --all: UID of the benchmark.")
@click.option("-d", "--data_uid", "dataset", type=Uid(), help="With --all: UID of the dataset.")
@yes_option
@online_option
@json_option
@example("medperf result submit -r b1m4d3", "medperf result submit --all -b 1 -d 3")
def submit(
    uid: str | None,
    every: bool,
    benchmark: int | str | None,
    dataset: int | str | None,
    yes: bool,
    require_online: bool,
    as_json: bool,
) -> None:
    """Release results: you see them, and if you agree they are sent to the registry.

    What the disclosure check finds in them holds them back, with -y too: `medperf result review`.
    Where the site's policy has two persons release, another member is asked to agree, and the same
    command sends what they agreed to.

    Of several runs of a model, --all takes the newest; its JSON is a list. A result whose dataset
    is not approved in the benchmark yet waits for that decision. Exits with 1 if another member has
    to agree first.
    """
    here = site()
    if bool(uid) == every:
        raise UsageError("give --result, or --all")
    if uid:
        chosen = [here.results.get(uid)]
        if is_released(chosen[0]):
            known = chosen[0].released or chosen[0].entry
            raise UsageError(f"{chosen[0].uid} was released before, as {known}")
    else:
        real = {
            "benchmark": None if benchmark is None else here.queue.real_uid(benchmark),
            "dataset": None if dataset is None else here.queue.real_uid(dataset),
        }
        chosen = [
            one
            for one in here.results.newest()
            if not is_released(one)
            and real["benchmark"] in (None, one.benchmark)
            and real["dataset"] in (None, one.dataset)
        ]
        if not chosen:
            print_json([]) if as_json else click.echo("There are no results here to release.")
            return
    release(chosen, yes, require_online, as_json, as_list=every)


def is_released(result: "Result") -> bool:
    """Whether a result was sent, or waits for it: what was dropped from the queue is neither."""
    is_queued = result.entry is not None and site().queue.outbox.find(result.entry) is not None
    return is_queued or result.released is not None


def release(
    chosen: "list[Result]", yes: bool, require_online: bool, as_json: bool, as_list: bool = False
) -> None:
    """Show results, and send them if the member agrees.

    In JSON a single one is no list, unless it has to be. Exits with 1 if one of them was not sent,
    for another member has to agree first.
    """
    from medperf_cache.outbox import SENT
    from medperf_client.kinds.result import result_submission

    here = site()
    _require_requests(chosen)
    key = here.signing_key()
    reviewed = cleared({f"result review {one.uid}": one.results for one in chosen})
    told_of = [
        (one, review.document, review.record())
        for one, review in zip(chosen, reviewed, strict=True)
    ]
    if key is not None:
        _require_signable(told_of)
    if not yes:
        click.echo("These results will be sent to the registry:", err=True)
        for one, document, disclosure in told_of:
            shown = {"result": one.uid, "partial": one.partial, "results": document}
            print_entity({**shown, "disclosure": disclosure}, err=True)
    confirm(
        f"Release {'this result' if len(chosen) == 1 else f'these {len(chosen)} results'}?", yes
    )
    if key is None and here.policy.release.persons == 1:
        here.tell("not signed: this machine has no key; make one with: medperf key create")
    told: list[dict[str, Any]] = []
    is_waiting, is_held, cut_off = False, False, _cut_off()
    for one, review, (_, document, disclosure) in zip(chosen, reviewed, told_of, strict=True):
        standing = agreement(subject_of(one), f"result {one.uid}", came_of(one), review)
        if standing is not None and not standing.is_approved:
            is_held = True
            words = {"release": standing.request.uid, "state": standing.state}
            told.append({"result": one.uid, **words, "reason": waiting_words(standing)})
            continue
        reference = here.queue.reference
        submission = result_submission(
            benchmark=reference(one.benchmark),
            model=reference(one.model),
            dataset=reference(one.dataset),
            name=one.base,
            results=document,
            partial=one.partial,
            disclosure=disclosure,
            statement=_signed(one, document, disclosure, key, standing) if key else None,
        )
        entry = _begun(one, document, cut_off) or here.submit(submission)
        here.results.change(one, entry=entry.uid, released=entry.real_uid)
        sent(standing, entry.uid)
        is_waiting |= entry.state != SENT
        told.append(
            {"result": one.uid, "id": entry.real_uid or entry.uid, "reason": entry.reason}
            | ({} if entry.state == SENT else {"queued": entry.state})
        )
    if as_json:
        print_json(told if as_list or len(told) > 1 else told[0])
    for each in () if as_json else told:
        if "release" in each:
            click.echo(plain(f"nothing was sent: result {each['result']} {each['reason']}"))
        elif "queued" in each:
            click.echo(plain(f"{each['result']}: queued as {each['id']}, {each['reason']}"))
        else:
            click.echo(plain(f"{each['result']}: released, as result {each['id']}."))
    if is_held:
        sys.exit(FAILED)
    if is_waiting and require_online:
        sys.exit(QUEUED)


def subject_of(result: "Result") -> str:
    """What a request for its release is called at this site."""
    return f"result-{result.name}"


def came_of(result: "Result") -> dict[str, Any]:
    """What a result came of, as those know it who agree to its release."""
    from medperf_client.evidence.statement import of_result

    here = site()
    return of_result(
        here.entity("benchmark", result.benchmark),
        here.entity("mlcube", result.model),
        # As it is once what waits is sent.
        here.as_asked("dataset", here.queue.real_uid(result.dataset)),
        result.partial,
    )


def _require_signable(told_of: "list[tuple[Result, dict[str, Any], dict[str, Any]]]") -> None:
    """Raise `Unsignable` for results that could not be signed, before any of them is sent."""
    from medperf_client.evidence.statement import document_digest

    for one, document, _ in told_of:
        document_digest(document, one.uid)


def _signed(
    result: "Result",
    document: dict[str, Any],
    disclosure: dict[str, Any],
    key: "Pair",
    standing: "Standing | None",
) -> dict[str, Any]:
    """The envelope in which this site says what made a result it releases, and who agreed."""
    from medperf_client.evidence.statement import RELEASE, ROLES, predicate_of, sealed

    here = site()
    benchmark = here.entity("benchmark", result.benchmark)
    predicate = predicate_of(
        {**result.record(), "disclosure": disclosure},
        came_of(result),
        {role: here.entity("mlcube", benchmark[column]) for role, column in ROLES.items()},
    )
    if standing is not None:
        predicate[RELEASE] = {"by": standing.request.by, "verdicts": [standing.verdict]}
    return sealed(document, result.uid, predicate, key)


def _cut_off() -> "dict[str, tuple[Entry, dict[str, Any]]]":
    """The entries of the queue that release what no result knows of, and their bodies, by UID.

    Whoever made them was cut off before that was noted.
    """
    from medperf_cache.outbox import REJECTED
    from medperf_client.kinds.result import RESULT

    here = site()
    named = {one.entry for one in here.results.all()}
    return {
        entry.uid: (entry, entry.resolved(here.queue.real_uid)[1])
        for entry in here.queue.outbox.entries()
        if entry.kind == RESULT.name and entry.state != REJECTED and entry.uid not in named
    }


def _begun(
    result: "Result", document: dict[str, Any], cut_off: "dict[str, tuple[Entry, dict[str, Any]]]"
) -> "Entry | None":
    """The entry that releases a result already, taken out of those that were cut off.

    `document` is what of the result may leave.
    """
    from medperf_client.kinds.result import RESULT

    said = {field: getattr(result, field) for field in RESULT.unique} | {"results": document}
    for uid, (entry, body) in cut_off.items():
        if all(body.get(field) == value for field, value in said.items()):
            del cut_off[uid]
            return entry
    return None


def _require_requests(results: "list[Result]") -> None:
    """Raise `UsageError` for a result of a dataset that does not ask to take part."""
    from medperf_client.kinds.submission import REJECTED

    statuses = statuses_in_benchmarks()
    for one in results:
        status = statuses.get((one.dataset, one.benchmark))
        if status is None:
            raise UsageError(
                f"dataset {one.dataset} never asked to take part in benchmark {one.benchmark}",
                hint=f"First: medperf dataset associate -d {one.dataset} -b {one.benchmark}",
            )
        if status == REJECTED:
            raise UsageError(
                f"dataset {one.dataset} is rejected in benchmark {one.benchmark}",
                hint="See: medperf association ls -bd",
            )
