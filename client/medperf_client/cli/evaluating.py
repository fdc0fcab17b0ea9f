"""Running models of a benchmark on a dataset: the options, the work, and what is shown of it."""

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from medperf_client.cli.base import Function, Uid, cache_option, dataset_option, display, site
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import FAILED, MedPerfError, UsageError
from medperf_client.settings.executors import KINDS, LOCAL

if TYPE_CHECKING:
    from medperf_client.datasets.records import Record
    from medperf_client.execution.awaited import Awaited
    from medperf_client.execution.evaluation import Asked, Outcome
    from medperf_client.execution.steps import Moment
    from medperf_client.executors.executor import Executor
    from medperf_client.executors.following import Following
    from medperf_client.executors.local import Local

benchmark_option = click.option(
    "-b", "--benchmark", type=Uid(), required=True, help="UID of the benchmark."
)
model_option = click.option(
    "-m", "--model_uid", "--model", "model", type=Uid(), required=True, help="UID of the model."
)
errors_option = click.option(
    "--ignore-model-errors",
    is_flag=True,
    help="Evaluate what a model wrote before it failed; the result is partial.",
)
keep_option = click.option(
    "--keep-predictions",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy the predictions to this folder, for you to look at.",
)


jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Run so many models at a time: on this machine 1 by default, in a queue as many as it has "
    "room for.",
)
EXECUTORS = click.Choice((LOCAL, *KINDS))
executor_option = click.option(
    "--executor",
    type=EXECUTORS,
    help="Where models run: on this machine, or as jobs of the queue that the profile names; that "
    "is where they run by default if it names one.",
)


def run_options(which: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """The options of `evaluated`; `which` is that of the models."""

    def add(function: Function) -> Function:
        for option in (executor_option, keep_option, cache_option, errors_option):
            function = option(function)
        return benchmark_option(dataset_option(which(function)))

    return add


def evaluated(
    benchmark: int | str,
    dataset: int | str,
    models: Sequence[int | str] | Literal["all", "reference"],
    no_cache: bool = False,
    ignore_model_errors: bool = False,
    keep_predictions: Path | None = None,
    jobs: int | None = None,
    executor: str | None = None,
    wait: bool = True,
) -> "list[Outcome]":
    """Run models of a benchmark on a dataset of this site, those named or `all`, `jobs` at a time.

    They run where `executor` says, or the profile. For a request to take part the `reference`
    model runs. Who does not `wait` has what is over, and leaves the rest to the queue. Raises
    `UsageError` for models that are not the benchmark's.
    """
    from medperf_client.execution.evaluation import laid_out

    here = site()
    found, entity, record = fitting(benchmark, dataset)
    chosen = models_of(found, models, here.tell)
    outcomes = []
    for outcome in running(
        *(found, entity, record, chosen, jobs, executor, wait),
        use_memo=not no_cache,
        may_fail=ignore_model_errors,
    ):
        outcomes.append(outcome)
        if outcome.error:
            here.tell(f"{outcome.called} failed: {outcome.error}")
        if outcome.result and keep_predictions is not None:
            here.tell(f"copied {laid_out(here.private, outcome.result, keep_predictions)}")
    display().close()
    places = {model["id"]: place for place, model in enumerate(chosen)}
    return sorted(outcomes, key=lambda one: places[one.model])


def fitting(
    benchmark_uid: int | str, dataset: int | str
) -> "tuple[dict[str, Any], dict[str, Any], Record]":
    """A benchmark, and a dataset of this site on which its models may run, with its record.

    Raises `NotAdmitted` for a benchmark, or metrics, that the site's policy does not let run here;
    `UsageError` for a dataset that is not in OPERATION, or was prepared with another container.
    """
    from medperf_client.admission.lists import BENCHMARKS, CONTAINERS
    from medperf_client.cli.own import own_dataset, require_prepared_for
    from medperf_client.kinds.submission import OPERATION

    here = site()
    benchmark = here.entity("benchmark", benchmark_uid)
    here.admit(BENCHMARKS, benchmark)
    here.admit(CONTAINERS, here.entity("mlcube", benchmark["data_evaluator_mlcube"]))
    entity, record = own_dataset(dataset)
    if entity["state"] != OPERATION:
        raise UsageError(
            f"{record.called} is in {entity['state']}",
            hint=f"First: medperf dataset set_operational -d {dataset}",
        )
    require_prepared_for(entity, benchmark)
    return benchmark, entity, record


def asked_of(
    benchmark: dict[str, Any], entity: dict[str, Any], record: "Record", **options: bool
) -> "Asked":
    """What models are run on: prepared data and labels, with the benchmark's metrics."""
    from medperf_client.cli.own import preparation
    from medperf_client.execution.evaluation import Asked

    evaluator = site().entity("mlcube", benchmark["data_evaluator_mlcube"])
    inputs = preparation().inputs(record)
    data, labels = inputs["data_path"], inputs["labels_path"]
    return Asked(benchmark["id"], evaluator, entity["id"], data, labels, record.logs, **options)


def running(
    benchmark: dict[str, Any],
    entity: dict[str, Any],
    record: "Record",
    models: Sequence[dict[str, Any]],
    jobs: int | None = None,
    executor: str | None = None,
    wait: bool = True,
    fails: bool = True,
    **options: bool,
) -> "Generator[Outcome, None, None]":
    """What becomes of each model, `jobs` at a time, alone with the dataset until it is closed.

    How far each is shows in a table on a terminal, else line by line. Who does not `wait` for what
    runs in a queue has what is over, and is shown nothing. `fails` is as in `run_queued`.
    """
    from medperf_client.cli.own import preparation
    from medperf_client.cli.runs import table_of
    from medperf_client.containers.library import called

    here = site()
    with here.datasets.alone(record) as mine:
        work = preparation()
        mine = work.take_over(mine, entity["generated_uid"])
        if mine.as_prepared and work.generated_uid(mine) != entity["generated_uid"]:
            raise MedPerfError(
                f"the data of {mine.called} are not those that were registered any more",
                f"They are in {mine.raw['data_path']} and {mine.raw['labels_path']}.",
            )
        asked = asked_of(benchmark, entity, mine, **options)
        queue = queue_of(executor, jobs)
        is_shown = wait or queue is None
        rows = [(one["id"], one["name"], called(one)) for one in models] if is_shown else []
        with table_of(rows) as table:
            shown = table.watch if table else display().watch
            watch = shown if is_shown else _in_silence
            evaluations = here.evaluations(watch, not asked.use_memo)
            # What a model gives on a member's own data is for the home to keep, nowhere else.
            missing = evaluations.missing(asked, models)
            if not asked.use_memo or missing:
                here.home.require_writable()
            if is_shown:
                _tell_elsewhere(asked, missing, queue)
            outcomes = (
                evaluations.run(asked, models, local_of(min(jobs or 1, len(models))))
                if queue is None
                else evaluations.run_queued(asked, models, queue, here.awaited, wait, fails)
            )
            for outcome in outcomes:
                if table:
                    made = outcome.result.uid if outcome.result else None
                    table.ended(outcome.called, made, outcome.is_cached)
                yield outcome


def _tell_elsewhere(
    asked: "Asked", models: Sequence[dict[str, Any]], queue: "Following | None"
) -> None:
    """Tell of models to be run that were left to a queue, and not to this one, before."""
    here, uids = site(), {one["id"] for one in models}
    # Of one that is done in parts there is a note for each.
    places = {
        (note.model, note.folder)
        for note in here.awaited.all()
        if (note.benchmark, note.dataset) == (asked.benchmark, asked.dataset)
        and note.model in uids
        and (queue is None or note.is_elsewhere(queue.executor.folder))
    }
    for model, folder in sorted(places, key=str):
        place = f" in {folder}" if folder else ""
        here.tell(
            f"container {model} is left to the queue{place}, too: medperf jobs wait has what it "
            "gives there"
        )


def queue_of(executor: str | None = None, jobs: int | None = None) -> "Following | None":
    """The queue that models run in, `jobs` at a time; None if they run on this machine.

    Raises `UsageError` for an executor that the profile does not name.
    """
    named = site().profile.executor
    if executor == LOCAL or (executor is None and named is None):
        return None
    from medperf_client.executors.executor import executor_of
    from medperf_client.executors.following import Following

    if named is None or executor not in (None, named["kind"]):
        raise UsageError(
            f"the profile names no executor {executor}",
            hint="See executor in config.example.yaml; then: medperf profile set executor "
            "'{kind: slurm, shared_folder: /scratch/me/medperf}'",
        )
    return Following(executor_of(named, jobs), site().tell)


def collected() -> "Iterator[tuple[Awaited, Outcome | Exception]]":
    """What became of models that were left to the queue, as far as it is known now.

    What the queue has lost is sent again. A dataset that another process is at work on is left to
    that one. What concerns all models of a benchmark on a dataset is told of one of them. Raises
    `MedPerfError` if the profile names no queue any more, or its folder is not there.
    """
    # Imported late, as all that needs the cache: whose help is shown waits for none of it.
    from medperf_cache.errors import InUse
    from medperf_client.execution.several import TROUBLE

    here = site()
    here.awaited.bind()
    notes, queue = here.awaited.all(), left_to()
    together: dict[Awaited, list[Awaited]] = {}
    elsewhere: dict[str, Awaited] = {}
    gone: list[Awaited] = []
    for note in notes if queue else ():
        if queue and note.is_elsewhere(queue.executor.folder):
            elsewhere.setdefault(note.folder, note)
        elif queue and queue.executor.has(note.element):
            together.setdefault(replace(note, element="", model="", folder=""), []).append(note)
        else:
            gone.append(note)
    if queue and gone:
        _forget(gone, queue.executor)
    for folder, note in elsewhere.items():
        yield (
            note,
            MedPerfError(
                f"it is left to the queue in {folder}, which executor.shared_folder does not name "
                "any more: name it again, to have what it gave"
            ),
        )
    for notes in together.values():
        by_model = {note.model: note for note in notes}
        try:
            for outcome in _collected(notes):
                yield by_model[outcome.model], outcome
        except InUse:
            continue
        except TROUBLE as error:
            yield notes[0], error


def _forget(gone: "list[Awaited]", executor: "Executor") -> None:
    """Forget what is not in the queue's folder any more, with its jobs; tell what has no result.

    What has was collected by somebody who was killed before this was noted.
    """
    here = site()
    done = {(one.benchmark, one.dataset, one.model) for one in here.results.all()}
    for note in gone:
        here.awaited.drop(note)
        if (note.benchmark, note.dataset, note.model) not in done:
            here.tell(
                f"{note.called}: what the queue had of container {note.model} is gone from "
                f"{executor.folder}; medperf benchmark run has it run again"
            )
    executor.sweep(())


def left_to() -> "Following | None":
    """The queue that models were left to, and could be; None if the profile names none.

    Raises `MedPerfError` if some were left and it names none any more, or its folder is not there.
    """
    queue, left = queue_of(), site().awaited.count()
    if queue is not None:
        queue.executor.require_folder(is_used=left > 0)
    elif left:
        raise MedPerfError(
            f"{left} models are left to a queue, and the profile names none any more",
            "Name it again, to have what they gave: see executor in config.example.yaml",
        )
    return queue


def _collected(notes: "Sequence[Awaited]") -> "Iterator[Outcome]":
    one = notes[0]
    benchmark, entity, record = fitting(one.benchmark, one.dataset)
    # Of one that is done in parts there is a note for each.
    models = [site().entity("mlcube", one) for one in dict.fromkeys(note.model for note in notes)]
    run = running(
        *(benchmark, entity, record, models),
        wait=False,
        fails=False,
        use_memo=one.use_memo,
        may_fail=one.may_fail,
        ordered=one.ordered,
    )
    with closing(run) as outcomes:
        yield from outcomes


def _in_silence(step: str, moment: "Moment") -> None:
    """Show nothing of what steps do."""


def local_of(jobs: int) -> "Local | None":
    """What does the steps of so many models at a time; one at a time are done in this process."""
    if jobs < 2:
        return None
    from medperf_client.executors.local import Local

    return Local(jobs)


def models_of(
    benchmark: dict[str, Any],
    models: Sequence[int | str] | Literal["all", "reference"],
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The models to run, in order of priority, the reference model last.

    `tell` gets why the list of those of others is not known. Raises `UsageError` for strangers.
    """
    here = site()
    reference = benchmark["reference_model_mlcube"]
    listed: list[int] = []
    if models != "reference" and list(models) != [reference]:
        unlisted = here.provisions.learn_models(benchmark, here.registry)
        if unlisted:
            tell(unlisted)
        listed = here.provisions.models(benchmark)
    known = [*(one for one in listed if one != reference), reference]
    wanted = known if isinstance(models, str) else [here.queue.real_uid(one) for one in models]
    if models == "reference":
        wanted = [reference]
    strangers = [str(one) for one in wanted if one not in known]
    if strangers:
        raise UsageError(
            f"not approved in benchmark {benchmark['id']}: container {', '.join(strangers)}",
            hint=f"Its models are {', '.join(map(str, known))}. If one was approved since: "
            "medperf sync",
        )
    return [here.entity("mlcube", one) for one in known if one in wanted]


def tell_outcomes(outcomes: "list[Outcome]", as_json: bool) -> None:
    """A table of what became of each model, counts, and what those took that ran."""
    from medperf_client.cli.used import tell_used

    failed = [one for one in outcomes if one.result is None]
    if as_json:
        print_json([one.record() for one in outcomes])
        return
    print_table(
        ("MODEL", "NAME", "RESULT", "PARTIAL", "FROM CACHE", "ERROR"),
        [
            (
                one.model,
                one.name,
                one.result.uid if one.result else None,
                "yes" if one.result and one.result.partial else "no",
                "yes" if one.is_cached else "no",
                one.error.partition("\n")[0],
            )
            for one in outcomes
        ],
    )
    cached = sum(one.is_cached for one in outcomes)
    done = len(outcomes) - len(failed)
    click.echo(
        f"Results: {done} of {len(outcomes)} ({cached} from the cache). Failed: {len(failed)}."
    )
    tell_used(outcomes)


def tell_left() -> None:
    """How many models are left to the queue, if there are any."""
    left = site().awaited.count()
    if left:
        click.echo(
            f"{left} models are left to the queue. See: medperf jobs ls; then: medperf jobs wait",
            err=True,
        )


def end(outcomes: "list[Outcome]") -> None:
    """Exit with 1 if a model failed, after all that printed."""
    for one in outcomes:
        # What was never started has printed nothing.
        if one.result is None and any(one.logs.glob("*")):
            click.echo(plain(f"What container {one.model} printed: {one.logs}"), err=True)
    if any(one.result is None for one in outcomes):
        sys.exit(FAILED)
