"""`medperf benchmark follow`: standing orders, and what `sync --watch` does about them."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import Command, Uid, display, example, foreseen, json_option, site
from medperf_client.cli.evaluating import asked_of, collected, fitting, models_of, running
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import (
    HeldBack,
    MedPerfError,
    NotAdmitted,
    Refused,
    Unsignable,
    UsageError,
)

if TYPE_CHECKING:
    from medperf_client.datasets.orders import Order
    from medperf_client.execution.awaited import Awaited
    from medperf_client.execution.evaluation import Outcome
    from medperf_client.execution.results import Result


@click.command(cls=Command, writes=lambda options: options["what"] != "ls")
@click.argument("what", type=click.Choice(["ls"]), required=False)
@click.option("-b", "--benchmark", type=Uid(), help="UID of the benchmark.")
@click.option("-d", "--data_uid", "dataset", type=Uid(), help="UID of the dataset.")
@click.option("--hours", default="", help="Only between these hours, such as 22-6, in local time.")
@click.option("--submit", "releases", is_flag=True, help="Release results at once, unseen.")
@click.option("--stop", is_flag=True, help="Follow it no more.")
@json_option
@example(
    "medperf benchmark follow -b 1 -d 3 --hours 22-6",
    "medperf benchmark follow ls",
    "medperf benchmark follow -b 1 -d 3 --stop",
)
def follow(
    what: str | None,
    benchmark: int | str | None,
    dataset: int | str | None,
    hours: str,
    releases: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Have each model run on a dataset once it is approved, while `medperf sync --watch` is on.

    What it needs is fetched. Results wait for `medperf result submit`, unless you say --submit:
    then those of this order are released as they come. A model that fails is told once, and tried
    again on the next day, or when it is another one. `ls` lists what you ordered.
    """
    from medperf_client.datasets.orders import bounds

    if what == "ls":
        if (benchmark, dataset, hours, releases, stop) != (None, None, "", False, False):
            raise UsageError("ls takes no other option than --json")
        _list(as_json)
        return
    if benchmark is None or dataset is None:
        raise UsageError("give --benchmark and --data_uid", hint="See: medperf benchmark follow ls")
    if stop:
        if hours or releases:
            raise UsageError("--stop takes neither --hours nor --submit")
        _stop(benchmark, dataset, as_json)
        return
    if hours:
        bounds(hours)
    _place(benchmark, dataset, hours, releases, as_json)


def _place(
    benchmark: int | str, dataset: int | str, hours: str, releases: bool, as_json: bool
) -> None:
    fitting(benchmark, dataset)
    if releases:
        _require_one_person()
    order = site().orders.place(benchmark, dataset, hours, releases)
    if as_json:
        print_json(order.record())
        return
    when = f" between the hours {hours}" if hours else ""
    click.echo(f"Models of {order.called} run as they are approved{when}.")
    click.echo(
        "Their results are released at once."
        if releases
        else "Their results wait for: medperf result submit"
    )
    click.echo("It needs: medperf sync --watch", err=True)


def _require_one_person() -> None:
    """Raise `HeldBack` where two persons release: neither of them would have seen the result."""
    release = site().policy.release
    if release.persons > 1:
        raise HeldBack(
            f"results are not released unseen here: {release.where}, a release takes two persons",
            "Release them with: medperf result submit",
        )


def _stop(benchmark: int | str, dataset: int | str, as_json: bool) -> None:
    order = site().orders.find(benchmark, dataset)
    if order is None:
        raise UsageError(
            f"nobody ordered to follow benchmark {benchmark} on dataset {dataset}",
            hint="See: medperf benchmark follow ls",
        )
    site().orders.end(order)
    print_json(order.record()) if as_json else click.echo(f"{order.called} is not followed.")


def _list(as_json: bool) -> None:
    orders = site().orders.all()
    if as_json:
        print_json([order.record() for order in orders])
        return
    print_table(
        ("BENCHMARK", "DATASET", "HOURS", "RELEASE", "LAST RUN", "MODEL", "OUTCOME"),
        [
            (
                *(order.benchmark, order.dataset, order.hours),
                "at once" if order.releases else "by you",
                _local(order.last.get("at")),
                order.last.get("model"),
                _first_line(order.trouble or order.last.get("error") or order.last.get("result")),
            )
            for order in orders
        ],
    )


def _first_line(text: str | None) -> str | None:
    return text and text.partition("\n")[0]


def _local(moment: str | None) -> str | None:
    return moment and f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


def carry_out_orders(as_json: bool) -> str:
    """Run what was approved since; why the orders cannot be read, if they cannot.

    What one order meets keeps no other from being carried out. What becomes of a model is on the
    disk before the next one runs, so whoever is killed goes on with what is missing.
    """
    try:
        for order in site().orders.all():
            if order.is_within(datetime.now()):
                _carry_out(order, as_json)
    except MedPerfError as error:
        return str(error)
    finally:
        display().close()
    return ""


def _carry_out(order: "Order", as_json: bool) -> None:
    trouble = ""
    try:
        _run(order, as_json)
        _release(order, as_json)
    except Exception as error:
        known = error if isinstance(error, MedPerfError) else foreseen(error)
        if known is None:
            raise
        trouble = str(known)
    if trouble != order.trouble:
        site().orders.note(order, partial(replace, trouble=trouble))
        if trouble:
            click.echo(plain(f"{order.called}: {trouble}"), err=True)


def collect_models(as_json: bool) -> str:
    """Keep what was left to a queue and has ended; what keeps some of it from being, if so."""
    troubles = []
    try:
        for note, outcome in collected():
            if isinstance(outcome, Exception):
                known = outcome if isinstance(outcome, MedPerfError) else foreseen(outcome)
                troubles.append(f"{note.called}: {known or outcome}")
            else:
                order = note_outcome(note, outcome)
                _tell(note, outcome, as_json, tells_failure=order is None)
    except MedPerfError as error:
        troubles.append(str(error))
    return "\n".join(troubles)


def note_outcome(note: "Awaited", outcome: "Outcome") -> "Order | None":
    """Write down what became of a model, if an order asked for it that stands; that order."""
    order = site().orders.find(note.benchmark, note.dataset) if note.ordered else None
    if order is None:
        return None
    return _noted(order, site().entity("mlcube", outcome.model), outcome)


def _run(order: "Order", as_json: bool) -> None:
    here, now = site(), datetime.now()
    benchmark, entity, record = fitting(order.benchmark, order.dataset)
    # Why a list is not known yet is nothing to tell at every look.
    models = models_of(benchmark, "all", lambda line: None)
    models = [model for model in models if not order.lets_be(model, now)]
    asked = asked_of(benchmark, entity, record)
    left = {
        one.model
        for one in here.awaited.all()
        if (one.benchmark, one.dataset) == (order.benchmark, order.dataset)
    }
    models = [model for model in models if model["id"] not in left]
    wanted = here.evaluations(display().watch).missing(asked, models)
    wanted = [model for model in wanted if _is_admitted(order, model)]
    ready = {model["id"]: model for model in _brought(order, benchmark, wanted)}
    if not ready:
        return
    # What runs in a queue is not waited for: it is collected at a later look.
    run = running(
        benchmark, entity, record, [*ready.values()], wait=False, fails=False, ordered=True
    )
    with closing(run) as outcomes:
        for outcome in outcomes:
            still = _noted(order, ready[outcome.model], outcome)
            _tell(order, outcome, as_json)
            if still is None or not still.is_within(datetime.now()):
                break


def _is_admitted(order: "Order", model: dict[str, Any]) -> bool:
    """Whether the site's policy lets a model run unasked; why not is told once."""
    from medperf_client.admission.lists import CONTAINERS, UNASKED

    try:
        for listed in (CONTAINERS, UNASKED):
            site().admit(listed, model)
    except NotAdmitted as error:
        if not order.is_told(model, str(error)):
            # The policy is asked anew at each look.
            _note_failure(order, model, str(error), datetime.now(), word="does not run")
        return False
    return True


def _brought(
    order: "Order", benchmark: dict[str, Any], wanted: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Fetch what the models need; those that have it. Of others it is told why, and tried soon."""
    from medperf_client.datasets.orders import SOON
    from medperf_client.execution.provisions import pin_name

    if not wanted:
        return []
    here = site()
    pin = pin_name(benchmark["id"], here.profile.server_url)
    chosen = [model["id"] for model in wanted]
    # What others have here stays pinned, and nothing of them is fetched.
    parts = here.provisions.bring(benchmark, chosen, pin, here.provisions.models(benchmark))
    display().close()
    lacking: dict[str, str] = {}
    for part in parts:
        if part.missing:
            said = f"{part.name} of {part.owner} cannot be had: {part.missing}"
            lacking.setdefault(part.owner, said)
    metrics = here.entity("mlcube", benchmark["data_evaluator_mlcube"])
    ready = []
    for model in wanted:
        error = lacking.get(_owner(model)) or lacking.get(_owner(metrics))
        if error:
            _note_failure(order, model, error, datetime.now() + SOON)
        else:
            ready.append(model)
    return ready


def _owner(container: dict[str, Any]) -> str:
    return f"container {container['id']} ({container['name']})"


def _noted(order: "Order", model: dict[str, Any], outcome: "Outcome") -> "Order | None":
    """Write down what became of a model; the order, if it still stands."""
    from medperf_client.datasets.orders import tomorrow, utc_now

    result = outcome.result.uid if outcome.result else None
    last = {"at": utc_now(), "model": model["id"], "result": result, "error": outcome.error or None}
    still = site().orders.note(order, lambda known: replace(known, last=last))
    if outcome.result is None:
        error = f"{outcome.error}\nSee: {outcome.logs}"
        _note_failure(order, model, error, tomorrow(datetime.now()))
    return still


def _tell(
    asked: "Order | Awaited", outcome: "Outcome", as_json: bool, tells_failure: bool = False
) -> None:
    """Tell what a model gave; how it failed is told by who notes that in an order."""
    owner = f"container {outcome.model} ({outcome.name})"
    if outcome.result is None:
        if tells_failure:
            click.echo(plain(f"{asked.called}: {owner} failed: {outcome.error}"), err=True)
    elif as_json:
        told = {"benchmark": asked.benchmark, "dataset": asked.dataset, **outcome.record()}
        # A watch writes one line after the other.
        print_json(told, indent=None)
    else:
        click.echo(plain(f"{asked.called}: {owner} gave {outcome.result.uid}"))


def _note_failure(
    order: "Order", model: dict[str, Any], error: str, until: datetime, word: str = "failed"
) -> None:
    """Write down that a model failed, and tell it unless that was told before."""
    site().orders.note(order, lambda known: known.with_failure(model, error, until))
    if not order.is_told(model, error):
        click.echo(plain(f"{order.called}: {_owner(model)} {word}: {error}"), err=True)


def _release(order: "Order", as_json: bool) -> None:
    """Release what the order gave, as far as it still stands and nothing was refused today."""
    from medperf_client.cli.result import release
    from medperf_client.datasets.orders import SOON, tomorrow

    here = site()
    waiting = _to_release(here.orders.find(order.benchmark, order.dataset))
    if waiting:
        _require_one_person()
    for one in waiting:
        model = here.entity("mlcube", one.model)
        if order.lets_be(model, datetime.now()):
            continue
        try:
            release([one], yes=True, require_online=False, as_json=as_json)
        except Refused as error:
            said = f"{one.uid} was refused: {error}"
            _note_failure(order, model, said, tomorrow(datetime.now()))
        except (HeldBack, Unsignable) as error:
            # Somebody may clear it any time.
            said = f"{one.uid}: {error}\n{error.hint}"
            until = datetime.now() + SOON
            _note_failure(order, model, said, until, word="gave what is not released")


def _to_release(order: "Order | None") -> "list[Result]":
    return [
        one
        for one in site().results.newest()
        if order is not None
        and order.releases
        and one.ordered
        and (one.benchmark, one.dataset) == (order.benchmark, order.dataset)
        and one.created_at >= order.since
        and one.entry is None
        and not one.partial
    ]
