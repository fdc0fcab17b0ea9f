"""`medperf benchmark`: see benchmarks, bring one along, and submit one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    limit_option,
    mine_option,
    online_option,
    prepared_option,
    show_before,
    shown,
    site,
    yes_option,
)
from medperf_client.cli.evaluating import (
    end,
    evaluated,
    jobs_option,
    queue_of,
    run_options,
    tell_left,
    tell_outcomes,
)
from medperf_client.cli.following import follow
from medperf_client.cli.ranking import ranking
from medperf_client.cli.text import (
    human_size,
    plain,
    print_entity,
    print_json,
    print_table,
    state_of,
)
from medperf_client.errors import FAILED, NotAdmitted, UsageError

if TYPE_CHECKING:
    from medperf_client.execution.provisions import Part, Provisions

CONTAINERS = (
    "data_preparation_container",
    "reference_model_container",
    "evaluator_container",
)


@click.group(cls=Group)
def group() -> None:
    """See benchmarks, bring one along, and submit one."""


group.add_command(follow)
group.add_command(ranking)


@group.command()
@mine_option
@limit_option
@json_option
@example("medperf benchmark ls", "medperf benchmark ls --mine --json")
def ls(mine: bool, limit: int | None, as_json: bool) -> None:
    """List the benchmarks of the registry."""
    benchmarks = shown("benchmark", as_json, limit, mine)
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


@group.command(writes=True)
@click.argument("uid", type=Uid())
@click.option(
    "--models",
    type=click.Choice(["all", "approved", "none"]),
    default="approved",
    show_default=True,
    help="Which of its models to bring too; all: also those that wait for a decision.",
)
@click.option(
    *("-d", "--data_uid", "dataset"),
    type=Uid(),
    help="All that a run of its models on this dataset of yours needs.",
)
@json_option
@example(
    "medperf benchmark fetch 1",
    "medperf benchmark fetch 1 --models none",
    "medperf benchmark fetch 1 --data_uid 3",
)
def fetch(uid: int | str, models: str, dataset: int | str | None, as_json: bool) -> None:
    """Bring along all that a benchmark needs to run with no network.

    That is its demo data and its containers, with their files and copies of their images. What is
    here already is not fetched again. It stays until `medperf storage unpin`. Exit code 1 if
    something could not be had; the rest is here all the same.

    The registry tells who has a dataset in the benchmark which models it has. With --data_uid it
    is an error if it does not, as long as the dataset is not approved. Models that the site's
    policy does not let run are told then, and not fetched.
    """
    from medperf_client.cli.own import require_prepared_for
    from medperf_client.execution.provisions import pin_name

    here = site()
    # What is queued was tested before: what it needs of the registry is known here.
    if isinstance(here.queue.real_uid(uid), int):
        here.freshen()
    provisions, benchmark = _provisions(uid)
    if dataset is not None:
        require_prepared_for(here.entity("dataset", dataset), benchmark)
    unlisted = "" if models == "none" else provisions.learn_models(benchmark, here.registry)
    chosen = [] if models == "none" else provisions.models(benchmark, waiting=models == "all")
    if dataset is not None:
        chosen = _admitted(benchmark, chosen)
    pin = pin_name(benchmark["id"], here.profile.server_url)
    parts = provisions.bring(benchmark, chosen, pin)
    display().close()
    if unlisted:
        here.tell(unlisted)
    _print_parts(benchmark, parts, provisions.size_bytes(parts), as_json)
    missing = [part for part in parts if part.missing]
    for part in missing:
        here.tell(f"{part.name} of {part.owner} cannot be had: {part.missing}")
    if unlisted and dataset is not None:
        here.tell(f"All are told once dataset {dataset} is approved in it: then fetch again.")
    if missing or (unlisted and dataset is not None):
        sys.exit(FAILED)


def _admitted(benchmark: dict[str, Any], models: list[int]) -> list[int]:
    """The models of a benchmark that may run on data of this site; the others are told.

    Raises `NotAdmitted` if the benchmark itself may not.
    """
    from medperf_client.admission.lists import BENCHMARKS, CONTAINERS

    here = site()
    here.admit(BENCHMARKS, benchmark)
    admitted = []
    for uid in models:
        try:
            here.admit(CONTAINERS, here.entity("mlcube", uid))
            admitted.append(uid)
        except NotAdmitted as error:
            here.tell(f"not fetched: {error}")
    return admitted


@group.command()
@click.argument("uid", type=Uid())
@json_option
@example("medperf benchmark status 1")
def status(uid: int | str, as_json: bool) -> None:
    """Tell whether a test on a benchmark can run here with no network, now.

    Opens no connection but to the local container engine. Exit code 1 if something is missing
    that every test needs.
    """
    provisions, benchmark = _provisions(uid)
    parts = provisions.look(benchmark, provisions.models(benchmark))
    _print_parts(benchmark, parts, provisions.size_bytes(parts), as_json)
    if not _ready(parts):
        sys.exit(FAILED)


def _provisions(uid: int | str) -> "tuple[Provisions, dict[str, Any]]":
    """What knows about provisions, and the benchmark they are for."""
    here = site()
    return here.provisions, here.provisions.benchmark(here.queue.real_uid(uid))


def _ready(parts: "list[Part]") -> bool:
    return not any(part.missing for part in parts if part.required)


def _print_parts(
    benchmark: dict[str, Any], parts: "list[Part]", size_bytes: int, as_json: bool
) -> None:
    if as_json:
        print_json(
            {
                "benchmark": benchmark["id"],
                "ready": _ready(parts),
                "bytes": size_bytes,
                "parts": [part.record() for part in parts],
            }
        )
        return
    print_table(
        ("OF", "PART", "SIZE", "STATE"),
        [
            (
                part.owner,
                part.name,
                human_size(part.size_bytes) if part.contents else None,
                f"missing: {part.missing}" if part.missing else "ready",
            )
            for part in parts
        ],
    )
    ready = sum(not part.missing for part in parts)
    verdict = "can run offline" if _ready(parts) else "cannot run offline"
    click.echo(
        plain(
            f"A test on benchmark {benchmark['id']} ({benchmark['name']}) {verdict}: "
            f"{ready} of {len(parts)} parts ready, {human_size(size_bytes)} in the cache."
        )
    )


@group.command(writes=True)
@click.option("-n", "--name", required=True, help="Name, unique in the registry.")
@click.option("-d", "--description", default="", help="What it evaluates.")
@click.option("-u", "--docs-url", default="", help="Where its documentation is.")
@click.option("--demo-url", required=True, help="URL of the demo dataset's archive.")
@click.option("--demo-hash", type=Sha256(), default="", help="SHA-256 of that archive, checked.")
@click.option("-p", "--data-preparation-container", type=Uid(), required=True, help="UID.")
@click.option("-m", "--reference-model-container", type=Uid(), required=True, help="UID.")
@click.option("-e", "--evaluator-container", type=Uid(), required=True, help="UID.")
@click.option(
    "--metrics",
    "metrics_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file that says what its metrics mean, for rankings.",
)
@prepared_option
@click.option("--operational", is_flag=True, help="Submit as OPERATION: ready for use, fixed.")
@click.option("--private", is_flag=True, help="Show it to none but those you invite.")
@yes_option
@online_option
@json_option
@example(
    "medperf benchmark submit --name breast-cancer --demo-url https://example.org/demo.tar.gz \\",
    "    --data-preparation-container 1 --reference-model-container 2 \\",
    "    --evaluator-container 3 --metrics metrics.yaml --operational",
)
def submit(
    yes: bool,
    require_online: bool,
    as_json: bool,
    demo_url: str,
    demo_hash: str,
    prepared: bool,
    metrics_file: Path | None,
    **options: Any,
) -> None:
    """Submit a benchmark; first its whole workflow is tested, and the result goes with it.

    While the registry is away it waits in the queue. Its containers may wait there too (q1).

    With --metrics the registry ranks models by what the benchmark says of its metrics: which way is
    better, their range, where their intervals are. All that the file names has to be in the results
    of the test.
    """
    from medperf_client.execution.compatibility import Scenario
    from medperf_client.kinds.benchmark import benchmark_submission
    from medperf_client.kinds.metrics import read_metrics, require_known

    here = site()
    metrics = read_metrics(metrics_file) if metrics_file else None
    with here.storage.in_use():
        demo_hash = here.checker.archive_hash(demo_url, demo_hash)
    preparator, model, evaluator = (options.pop(name) for name in CONTAINERS)
    scenario = Scenario(
        data_preparator=str(preparator),
        model=str(model),
        evaluator=str(evaluator),
        demo_url=demo_url,
        demo_hash=demo_hash,
        prepared=prepared,
    )
    report = here.compatibility_test().run(scenario, display().watch)
    require_known(metrics or [], report["results"])
    containers = {
        "data_preparation_mlcube": here.queue.reference(preparator),
        "reference_model_mlcube": here.queue.reference(model),
        "data_evaluator_mlcube": here.queue.reference(evaluator),
    }
    submission = benchmark_submission(
        **options,
        demo_url=demo_url,
        demo_hash=demo_hash,
        containers=containers,
        report=report,
        metrics=metrics,
    )
    show_before(submission.body, yes)
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


@group.command(writes=True)
@click.argument("uid", type=Uid())
@click.argument("email")
@online_option
@json_option
@example("medperf benchmark invite 1 grace@hospital.example.org")
def invite(uid: int | str, email: str, require_online: bool, as_json: bool) -> None:
    """Show your private benchmark to a member of the registry too."""
    from medperf_client.kinds.invitation import benchmark_invitation

    deliver(
        benchmark_invitation(site().queue.reference(uid), email),
        as_json,
        require_online,
        lambda member: f"{member['email']} sees benchmark {uid} from now on.",
    )


@group.command(writes=True)
@click.argument("uid", type=Uid())
@yes_option
@online_option
@json_option
@example("medperf benchmark approve 1")
def approve(uid: int | str, yes: bool, require_online: bool, as_json: bool) -> None:
    """Approve a pending benchmark; administrators of the registry only.

    You approve what `medperf benchmark view` shows here: if it has changed since, the registry
    refuses.
    """
    _decide("Approve", "APPROVED", uid, yes, require_online, as_json)


@group.command(writes=True)
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
    from medperf_client.kinds.benchmark import benchmark_decision, seen_digest

    here = site()
    real = here.queue.real_uid(uid)
    seen = seen_digest(here.catalog.get, real) if status == "APPROVED" else None
    confirm(f"{verb} benchmark {uid}?", yes)
    deliver(
        benchmark_decision(here.queue.reference(uid), status, seen),
        as_json,
        require_online,
        lambda benchmark: f"Benchmark {benchmark['id']} ({benchmark['name']}) is {status}.",
    )


@group.command()
@run_options(
    click.option(
        *("-f", "--models-from-file"),
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the UIDs of the models to run, separated by commas.",
    )
)
@jobs_option
@click.option(
    "--no-wait",
    is_flag=True,
    help="Leave what is not over to the queue: `medperf jobs wait` or `collect` has it later.",
)
@json_option
@example(
    "medperf benchmark run -b 1 -d 3",
    "medperf benchmark run -b 1 -d 3 --jobs 4",
    "medperf benchmark run -b 1 -d 3 --no-wait",
)
def run(models_from_file: Path | None, no_wait: bool, as_json: bool, **options: Any) -> None:
    """Run all models of a benchmark on a dataset, those of high priority first.

    What has a result here already is not run again. A model that fails costs only itself; the
    exit code is 1 then, after all have run. Nothing is sent: `medperf result submit` releases.
    Where models run as jobs of a queue, those go on if this is stopped; the same command collects
    them, and so do `medperf jobs wait` and `medperf sync --watch`.
    """
    if no_wait and queue_of(options["executor"]) is None:
        raise UsageError(
            "--no-wait is for models that run in a queue", "See executor in config.example.yaml."
        )
    models: list[int | str] | Literal["all"] = "all"
    if models_from_file is not None:
        models = _models_of(models_from_file)
    outcomes = evaluated(models=models, wait=not no_wait, **options)
    tell_outcomes(outcomes, as_json)
    if no_wait:
        tell_left()
    end(outcomes)


def _models_of(file: Path) -> list[int | str]:
    """The UIDs of models in a file. Raises `UsageError` if there are none."""
    from medperf_client.files import read_text

    hint = (
        "It has UIDs, separated by commas or each on a line: medperf benchmark view, container ls"
    )
    words = read_text(file, "list of models", hint).replace("\n", ",").split(",")
    models = [Uid().convert(word.strip(), None, None) for word in words if word.strip()]
    if not models:
        raise UsageError(f"{file} names no models", hint)
    return models


@group.command()
@click.argument("uid", type=Uid())
@click.option("--metric", "metrics", multiple=True, help="Only this one; may be given repeatedly.")
@json_option
@example("medperf benchmark results 1", "medperf benchmark results 1 --metric auroc")
def results(uid: int | str, metrics: tuple[str, ...], as_json: bool) -> None:
    """Show the released results of a benchmark: a row for each site's run of a model.

    Its owner sees those of all sites, others only their own.
    """
    from medperf_client.cli.by_site import tell_by_site
    from medperf_client.cli.result import learn

    here = site()
    here.freshen()
    benchmark = here.entity("benchmark", uid)
    learn(benchmark["id"])
    released = [one for one in here.catalog.all("result") if one["benchmark"] == benchmark["id"]]
    tell_by_site(released, metrics, as_json)
