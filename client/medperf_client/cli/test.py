"""`medperf test`: compatibility tests and their reports."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import (
    Group,
    Sha256,
    Uid,
    cache_option,
    display,
    example,
    if_given,
    json_option,
    prepared_option,
    site,
)
from medperf_client.cli.evaluating import EXECUTORS, jobs_option, local_of, queue_of
from medperf_client.cli.text import plain, print_entity, print_json, print_table
from medperf_client.errors import FAILED
from medperf_client.settings.executors import LOCAL

if TYPE_CHECKING:  # Its help needs none of it.
    from medperf_client.execution.compatibility import Scenario, Tested


@click.group(cls=Group)
def group() -> None:
    """Test a container's compatibility with a benchmark."""


def run_test(scenario: "Scenario") -> dict[str, Any]:
    """Run a test with its steps shown, and return the report."""
    with_network = not scenario.use_memo
    with site().where_it_can_run() as here:
        report = here.compatibility_test(refetch=with_network).run(scenario, display().watch)
    display().close()
    return report


def run_tests(
    scenario: "Scenario", models: Sequence[str | None], jobs: int | None, executor: str
) -> "list[Tested]":
    """Test several models, `jobs` at a time, with their steps shown; in the order they were named.

    How one failed is told as it ends.
    """
    from medperf_client.cli.runs import table_of

    done = []
    with site().where_it_can_run() as here:
        tests = here.compatibility_test(refetch=not scenario.use_memo)
        names = {model: tests.called(model) for model in models if model is not None}
        queue = queue_of(executor, jobs)
        local = local_of(min(jobs or 1, len(models))) if queue is None else None
        with table_of([(uid, called, called) for uid, called in names.values()]) as table:
            watch = table.watch if table else display().watch
            for one in tests.run_several(scenario, models, watch, local, queue):
                done.append(one)
                if one.model is None or len(models) == 1:
                    continue
                _, called = names[one.model]
                if table:
                    table.ended(called, None if one.error else one.report["uid"], one.is_cached)
                if one.error:
                    hint = getattr(one.error, "hint", "")
                    here.tell("\n".join([f"{called} failed: {one.error}", *[hint] * bool(hint)]))
    display().close()
    places = list(models)
    return sorted(done, key=lambda one: places.index(one.model))


@group.command(writes=if_given("data_path"))
@click.option("-b", "--benchmark", type=Uid(), help="UID of the benchmark.")
@click.option(
    *("-m", "--model", "models"),
    multiple=True,
    help="Model: UID, or path of a container_config.yaml. May be given several times.",
)
@click.option("-p", "--data_preparator", help="Data preparator: UID or path.")
@click.option("-e", "--evaluator", help="Metrics container: UID or path.")
@click.option(
    *("--demo-url", "--demo_dataset_url", "demo_url"), help="URL of a demo dataset's archive."
)
@click.option(
    *("--demo-hash", "--demo_dataset_hash", "demo_hash"),
    type=Sha256(),
    help="SHA-256 of that archive.",
)
@click.option("--data_path", type=click.Path(path_type=Path), help="Folder of data to use.")
@click.option("--labels_path", type=click.Path(path_type=Path), help="Folder of their labels.")
@prepared_option
@cache_option
@jobs_option
@click.option(
    "--executor",
    type=EXECUTORS,
    default=LOCAL,
    help="Where the steps run: on this machine by default, whatever the profile names for "
    "`benchmark run`, or as jobs of the queue that the profile names.",
)
@json_option
@example(
    'medperf test run --benchmark 1 --model "my_model/container_config.yaml"',
    "medperf test run --benchmark 1 --model 4 --json",
    "medperf test run -b 1 -m 4 -m 7 -m my_model/container_config.yaml --jobs 2",
)
def run(
    models: tuple[str, ...],
    no_cache: bool,
    jobs: int | None,
    executor: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a benchmark's whole workflow on demo data.

    A container is a UID, or the path of a container_config.yaml with workspace/parameters.yaml and
    workspace/additional_files/ beside it; the benchmark provides those not given. Steps whose
    image, parameters, files and data are unchanged are answered from the cache.

    Each of several models has a report of its own, and one that fails costs only itself: the exit
    code is 1 then, after all have run. The data are prepared once, before. Jobs of a queue go on if
    this is stopped, and the same command collects them.
    """
    from medperf_client.execution.compatibility import Scenario

    scenario = Scenario(**options, use_memo=not no_cache)
    if len(models) > 1:
        _tell_tests(run_tests(scenario, models, jobs, executor), as_json)
        return
    model = models[0] if models else None
    if executor == LOCAL:
        report = run_test(replace(scenario, model=model))
    else:
        (tested,) = run_tests(scenario, [model], jobs, executor)
        if tested.error:
            raise tested.error
        report = tested.report
    if as_json:
        print_json(report)
    else:
        show_report(report)


def _tell_tests(done: "list[Tested]", as_json: bool) -> None:
    """Print what became of several tests, and what they took; exit with 1 if one failed."""
    from medperf_client.cli.used import tell_used

    reports = [one.report for one in done]
    failed = [one for one in done if one.error]
    if as_json:
        print_json(reports)
    else:
        print_table(
            ("MODEL", "REPORT", "PASSED", "FROM CACHE", "ERROR"),
            [
                (
                    one.report["model"]["name"],
                    one.report["uid"],
                    "no" if one.error else "yes",
                    "yes" if one.is_cached else "no",
                    str(one.error or "").partition("\n")[0],
                )
                for one in done
            ],
        )
        cached = sum(one.is_cached for one in done)
        passed = len(done) - len(failed)
        click.echo(f"Passed: {passed} of {len(done)} ({cached} from the cache).")
        tell_used(done)
    if failed:
        sys.exit(FAILED)


@group.command()
@json_option
@example("medperf test ls")
def ls(as_json: bool) -> None:
    """List the tests that were run here, oldest first."""
    reports = site().reports.all()
    if as_json:
        print_json(reports)
        return
    print_table(
        ("UID", "BENCHMARK", "MODEL", "RESULT"),
        [
            (
                report["uid"],
                report["benchmark"],
                report["model"]["name"],
                "passed" if report["passed"] else "failed",
            )
            for report in reports
        ],
    )


@group.command()
@click.argument("uid")
@json_option
@example("medperf test view latest")
def view(uid: str, as_json: bool) -> None:
    """Show the report of a test; `latest` is the newest."""
    report = site().reports.get(uid)
    if as_json:
        print_json(report)
    else:
        show_report(report)


@group.command(writes=True)
@click.argument("uids", metavar="UID...", nargs=-1, required=True)
@example("medperf test rm latest")
def rm(uids: tuple[str, ...]) -> None:
    """Delete reports of tests, with what their containers printed; `latest` is the newest."""
    for uid in uids:
        site().reports.remove(uid)


def _called(step: dict[str, Any]) -> str:
    from medperf_client.containers.job import called

    return called(step["step"], str(step.get("model", "")))


def _source(step: dict[str, Any]) -> str:
    signed_by = str(step.get("signed_by", ""))
    return f"{step['source']}, signed by {signed_by[:12]}" if signed_by else step["source"]


def show_report(report: dict[str, Any]) -> None:
    """A report for people: what was tested, each step, the results."""
    from medperf_client.execution.reports import TESTED

    tested = {role: report[role]["name"] for role in TESTED}
    data = {"data": "prepared already"} if report.get("already_prepared") else {}
    print_entity({"test": report["uid"], "benchmark": report["benchmark"], **tested, **data})
    click.echo()
    print_table(
        ("STEP", "FROM", "SECONDS", "IMAGE", "OUTPUT"),
        [
            (
                _called(step),
                _source(step),
                f"{step['seconds']:.1f}",
                step["image_id"][:12],
                ", ".join(f"{name} {digest[:12]}" for name, digest in step["outputs"].items()),
            )
            for step in report["steps"]
        ],
    )
    click.echo()
    if report["passed"]:
        print_entity({"results": report["results"]})
        click.echo("\nThe test passed.")
    else:
        click.echo(plain(f"The test failed: {report.get('error', 'it was interrupted')}"))
