"""`medperf association`: follow requests to join benchmarks, and decide them."""

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
from medperf_client.errors import UsageError

MODELS, DATASETS = "association", "dataset_association"
STATUSES = ("PENDING", "APPROVED", "REJECTED")

benchmark_option = click.option(
    "-b", "--benchmark", type=Uid(), required=True, help="Benchmark UID."
)
model_option = click.option(
    "-m", "--model_uid", "--model", "model", type=Uid(), help="UID of the model's container."
)
dataset_option = click.option(
    "-d", "--data_uid", "--dataset", "dataset", type=Uid(), help="UID of the dataset."
)
reason_option = click.option("--reason", default="", help="What the other side is told.")


@click.group(cls=Group)
def group() -> None:
    """Follow and decide association requests."""


@group.command()
@click.option("-bm", "--benchmark-model", "of_models", is_flag=True, help="Only those of models.")
@click.option(
    "-bd", "--benchmark-dataset", "of_datasets", is_flag=True, help="Only those of datasets."
)
@click.option(
    "-s", "--status", "--approval-status", type=click.Choice(STATUSES, case_sensitive=False)
)
@json_option
@example("medperf association ls -bd", "medperf association ls -bm --status PENDING")
def ls(of_models: bool, of_datasets: bool, status: str | None, as_json: bool) -> None:
    """List the associations of your models, your datasets and your benchmarks."""
    here = site()
    here.freshen()
    both = of_models == of_datasets
    associations = [
        association
        for kind, is_asked in ((MODELS, both or of_models), (DATASETS, both or of_datasets))
        for association in (here.listed(kind) if is_asked else ())
        if status is None or association["approval_status"] == status.upper()
    ]
    if as_json:
        print_json(associations)
        return
    print_table(
        ("MODEL", "DATASET", "BENCHMARK", "STATUS", "PRIORITY", "REQUESTED", "DECIDED"),
        [
            (
                a.get("model_mlcube"),
                a.get("dataset"),
                a["benchmark"],
                a.get("queued") or a["approval_status"],
                a.get("priority"),
                str(a.get("created_at") or "")[:16],
                str(a.get("approved_at") or "")[:16],
            )
            for a in associations
        ],
    )


@group.command(writes=True)
@benchmark_option
@model_option
@dataset_option
@reason_option
@yes_option
@online_option
@json_option
@example(
    "medperf association approve --benchmark 1 --model_uid 4",
    "medperf association approve -b 1 -d 3",
)
def approve(**options: Any) -> None:
    """Approve the pending request of a model, or of a dataset.

    You approve the request that `medperf association ls` shows here: if a newer one took its place
    since, the registry refuses.
    """
    _decide("Approve", "APPROVED", **options)


@group.command(writes=True)
@benchmark_option
@model_option
@dataset_option
@reason_option
@yes_option
@online_option
@json_option
@example('medperf association reject --benchmark 1 --model_uid 4 --reason "See page 3 of the docs"')
def reject(**options: Any) -> None:
    """Reject the pending request of a model, or of a dataset; or withdraw your own."""
    _decide("Reject", "REJECTED", **options)


@group.command(writes=True)
@benchmark_option
@click.option(
    "-m", "--model_uid", "--model", "model", type=Uid(), required=True, help="Container UID."
)
@click.option("-p", "--priority", type=int, required=True, help="Higher runs earlier.")
@online_option
@json_option
@example("medperf association set_priority --benchmark 1 --model_uid 4 --priority 10")
def set_priority(
    benchmark: int | str, model: int | str, priority: int, require_online: bool, as_json: bool
) -> None:
    """Set how early a model runs in your benchmark."""
    sides = {"model_mlcube": model, "benchmark": benchmark}
    _change("Change", MODELS, sides, True, require_online, as_json, priority=priority)


def _decide(
    verb: str,
    status: str,
    benchmark: int | str,
    model: int | str | None,
    dataset: int | str | None,
    reason: str,
    **delivery: bool,
) -> None:
    from medperf_client.kinds import kind_of
    from medperf_client.kinds.pairs import newest_pending

    if (model is None) == (dataset is None):
        raise UsageError("give --model or --dataset, one of both")
    kind, side = (MODELS, "model_mlcube") if model is not None else (DATASETS, "dataset")
    here, sides = site(), {side: model or dataset or 0, "benchmark": benchmark}
    real = {name: here.queue.real_uid(uid) for name, uid in sides.items()}
    request = newest_pending(kind_of(kind), here.catalog.all(kind), real)
    values: dict[str, Any] = {"approval_status": status, **({"reason": reason} if reason else {})}
    meant = {"id": request["id"]} if request else {}
    _change(verb, kind, sides, **delivery, **values, **meant)


def _change(
    verb: str,
    kind: str,
    sides: dict[str, int | str],
    yes: bool,
    require_online: bool,
    as_json: bool,
    **values: Any,
) -> None:
    from medperf_client.kinds import kind_of
    from medperf_client.kinds.pairs import pair_change

    word = "container" if "model_mlcube" in sides else "dataset"
    asks, benchmark = f"{word} {next(iter(sides.values()))}", sides["benchmark"]
    confirm(f"{verb} the association of {asks} with benchmark {benchmark}?", yes)
    queue = site().queue

    def said(answer: dict[str, Any]) -> str:
        kept = {name: value for name, value in values.items() if name not in ("id", "reason")}
        lost = ""
        if "reason" in values and answer.get("reason") == values["reason"]:
            kept["reason"] = values["reason"]
        elif "reason" in values:
            lost = " This registry keeps no reasons, so nobody was told yours."
        shown = ", ".join(f"{name} is {value}" for name, value in kept.items())
        return f"{asks.capitalize()} in benchmark {benchmark}: {shown}.{lost}"

    references = {name: queue.reference(uid) for name, uid in sides.items()}
    deliver(
        pair_change(kind_of(kind), references, **values),
        as_json,
        require_online,
        said,
    )
