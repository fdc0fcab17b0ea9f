"""`medperf association`: follow requests of models to join benchmarks, and decide them."""

from typing import Any

import click

from medperf_client.cli.base import (
    Group,
    Uid,
    confirm,
    deliver,
    example,
    json_option,
    online_option,
    site,
    yes_option,
)
from medperf_client.cli.text import print_json, print_table

STATUSES = ("PENDING", "APPROVED", "REJECTED")

benchmark_option = click.option(
    "-b", "--benchmark", type=Uid(), required=True, help="Benchmark UID."
)
model_option = click.option(
    "-m", "--model_uid", "--model", type=Uid(), required=True, help="Container UID."
)
reason_option = click.option("--reason", default="", help="What the other side is told.")


@click.group(cls=Group)
def group() -> None:
    """Follow and decide association requests."""


@group.command()
@click.option(
    "-bm", "--benchmark-model", is_flag=True, help="Benchmarks and models: the only kind so far."
)
@click.option(
    "-s", "--status", "--approval-status", type=click.Choice(STATUSES, case_sensitive=False)
)
@json_option
@example("medperf association ls -bm", "medperf association ls -bm --status PENDING")
def ls(benchmark_model: bool, status: str | None, as_json: bool) -> None:
    """List the associations of your models and of your benchmarks."""
    here = site()
    here.freshen()
    associations = [
        association
        for association in here.listed("association")
        if status is None or association["approval_status"] == status.upper()
    ]
    if as_json:
        print_json(associations)
        return
    print_table(
        ("MODEL", "BENCHMARK", "STATUS", "PRIORITY", "REQUESTED", "DECIDED"),
        [
            (
                a["model_mlcube"],
                a["benchmark"],
                a.get("queued") or a["approval_status"],
                a.get("priority"),
                str(a.get("created_at") or "")[:16],
                str(a.get("approved_at") or "")[:16],
            )
            for a in associations
        ],
    )


@group.command()
@benchmark_option
@model_option
@reason_option
@yes_option
@online_option
@json_option
@example("medperf association approve --benchmark 1 --model_uid 4")
def approve(**options: Any) -> None:
    """Approve a model's pending request.

    You approve the request that `medperf association ls` shows here: if a newer one took its place
    since, the registry refuses.
    """
    _decide("Approve", "APPROVED", **options)


@group.command()
@benchmark_option
@model_option
@reason_option
@yes_option
@online_option
@json_option
@example('medperf association reject --benchmark 1 --model_uid 4 --reason "See page 3 of the docs"')
def reject(**options: Any) -> None:
    """Reject a model's pending request, or withdraw your own."""
    _decide("Reject", "REJECTED", **options)


@group.command()
@benchmark_option
@model_option
@click.option("-p", "--priority", type=int, required=True, help="Higher runs earlier.")
@online_option
@json_option
@example("medperf association set_priority --benchmark 1 --model_uid 4 --priority 10")
def set_priority(
    benchmark: int | str, model_uid: int | str, priority: int, require_online: bool, as_json: bool
) -> None:
    """Set how early a model runs in your benchmark."""
    _change("Change", model_uid, benchmark, True, require_online, as_json, priority=priority)


def _decide(
    verb: str,
    status: str,
    benchmark: int | str,
    model_uid: int | str,
    reason: str,
    **delivery: bool,
) -> None:
    from medperf_client.kinds.association import newest_pending

    here = site()
    pair = here.queue.real_uid(model_uid), here.queue.real_uid(benchmark)
    request = newest_pending(here.catalog.all("association"), *pair)
    values: dict[str, Any] = {"approval_status": status, **({"reason": reason} if reason else {})}
    meant = {"id": request["id"]} if request else {}
    _change(verb, model_uid, benchmark, **delivery, **values, **meant)


def _change(
    verb: str,
    model: int | str,
    benchmark: int | str,
    yes: bool,
    require_online: bool,
    as_json: bool,
    **values: Any,
) -> None:
    from medperf_client.kinds.association import association_change

    confirm(f"{verb} the association of container {model} with benchmark {benchmark}?", yes)
    queue = site().queue
    shown = ", ".join(f"{name} is {value}" for name, value in values.items() if name != "id")
    deliver(
        association_change(queue.reference(model), queue.reference(benchmark), **values),
        as_json,
        require_online,
        lambda _: f"Container {model} in benchmark {benchmark}: {shown}.",
    )
