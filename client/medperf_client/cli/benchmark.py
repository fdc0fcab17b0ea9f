"""`medperf benchmark`: see benchmarks, and submit one."""

from typing import Any

import click

from medperf_client.cli.base import (
    Group,
    Sha256,
    Uid,
    confirm,
    deliver,
    display,
    example,
    json_option,
    mine_option,
    online_option,
    site,
    yes_option,
)
from medperf_client.cli.text import print_entity, print_json, print_table, state_of

CONTAINERS = (
    "data_preparation_container",
    "reference_model_container",
    "evaluator_container",
)


@click.group(cls=Group)
def group() -> None:
    """See benchmarks, and submit one."""


@group.command()
@mine_option
@json_option
@example("medperf benchmark ls", "medperf benchmark ls --mine --json")
def ls(mine: bool, as_json: bool) -> None:
    """List the benchmarks of the registry."""
    here = site()
    here.freshen()
    benchmarks = here.listed("benchmark", mine)
    if as_json:
        print_json(benchmarks)
        return
    print_table(
        ("UID", "NAME", "STATE", "APPROVAL", "DESCRIPTION"),
        [
            (b["id"], b["name"], state_of(b), b.get("approval_status"), b["description"])
            for b in benchmarks
        ],
    )


@group.command()
@click.argument("uid", type=Uid())
@json_option
@example("medperf benchmark view 1")
def view(uid: int | str, as_json: bool) -> None:
    """Show a benchmark."""
    here = site()
    here.freshen()
    benchmark = here.entity("benchmark", uid)
    (print_json if as_json else print_entity)(benchmark)


@group.command()
@click.option("-n", "--name", required=True, help="Name, unique in the registry.")
@click.option("-d", "--description", default="", help="What it evaluates.")
@click.option("--docs-url", default="", help="Where its documentation is.")
@click.option("--demo-url", required=True, help="URL of the demo dataset's archive.")
@click.option("--demo-hash", type=Sha256(), default="", help="SHA-256 of that archive, checked.")
@click.option("-p", "--data-preparation-container", type=Uid(), required=True, help="UID.")
@click.option("-m", "--reference-model-container", type=Uid(), required=True, help="UID.")
@click.option("-e", "--evaluator-container", type=Uid(), required=True, help="UID.")
@click.option("--operational", is_flag=True, help="Submit as OPERATION: ready for use, fixed.")
@yes_option
@online_option
@json_option
@example(
    "medperf benchmark submit --name breast-cancer --demo-url https://example.org/demo.tar.gz \\",
    "    --data-preparation-container 1 --reference-model-container 2 \\",
    "    --evaluator-container 3 --operational",
)
def submit(
    yes: bool,
    require_online: bool,
    as_json: bool,
    demo_url: str,
    demo_hash: str,
    **options: Any,
) -> None:
    """Submit a benchmark; first its whole workflow is tested, and the result goes with it.

    While the registry is away it waits in the queue. Its containers may wait there too (q1).
    """
    from medperf_client.compatibility import Scenario
    from medperf_client.submissions import benchmark_submission

    here = site()
    with here.storage.in_use():
        demo_hash = here.checker.archive_hash(demo_url, demo_hash)
    preparator, model, evaluator = (options.pop(name) for name in CONTAINERS)
    scenario = Scenario(
        data_preparator=str(preparator),
        model=str(model),
        evaluator=str(evaluator),
        demo_url=demo_url,
        demo_hash=demo_hash,
    )
    report = here.compatibility_test().run(scenario, display().watch)
    containers = {
        "data_preparation_mlcube": here.queue.reference(preparator),
        "reference_model_mlcube": here.queue.reference(model),
        "data_evaluator_mlcube": here.queue.reference(evaluator),
    }
    submission = benchmark_submission(
        **options, demo_url=demo_url, demo_hash=demo_hash, containers=containers, report=report
    )
    if not yes:
        click.echo("This will be sent to the registry:", err=True)
        print_entity(submission.body, err=True)
    confirm("Submit this benchmark?", yes)
    deliver(
        submission,
        as_json,
        require_online,
        lambda benchmark: (
            f"Submitted benchmark {benchmark['id']} ({benchmark['name']}); "
            "an administrator of the registry approves it."
        ),
    )


@group.command()
@click.argument("uid", type=Uid())
@yes_option
@online_option
@json_option
@example("medperf benchmark approve 1")
def approve(uid: int | str, yes: bool, require_online: bool, as_json: bool) -> None:
    """Approve a pending benchmark; administrators of the registry only."""
    _decide("Approve", "APPROVED", uid, yes, require_online, as_json)


@group.command()
@click.argument("uid", type=Uid())
@yes_option
@online_option
@json_option
@example("medperf benchmark reject 1")
def reject(uid: int | str, yes: bool, require_online: bool, as_json: bool) -> None:
    """Reject a benchmark, for good; administrators of the registry only."""
    _decide("Reject", "REJECTED", uid, yes, require_online, as_json)


def _decide(
    verb: str, status: str, uid: int | str, yes: bool, require_online: bool, as_json: bool
) -> None:
    from medperf_client.submissions import benchmark_decision

    confirm(f"{verb} benchmark {uid}?", yes)
    deliver(
        benchmark_decision(site().queue.reference(uid), status),
        as_json,
        require_online,
        lambda benchmark: f"Benchmark {benchmark['id']} ({benchmark['name']}) is {status}.",
    )
