"""`medperf test`: compatibility tests and their reports."""

from pathlib import Path
from typing import Any

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
from medperf_client.cli.text import plain, print_entity, print_json, print_table


@click.group(cls=Group)
def group() -> None:
    """Test a container's compatibility with a benchmark."""


def run_test(scenario: Any) -> dict[str, Any]:
    """Run a test with its steps shown, and return the report."""
    with_network = not scenario.use_memo
    with site().where_it_can_run() as here:
        report = here.compatibility_test(refetch=with_network).run(scenario, display().watch)
    display().close()
    return report


@group.command(writes=if_given("data_path"))
@click.option("-b", "--benchmark", type=Uid(), help="UID of the benchmark.")
@click.option("-m", "--model", help="Model: UID, or path of a container_config.yaml.")
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
@json_option
@example(
    'medperf test run --benchmark 1 --model "my_model/container_config.yaml"',
    "medperf test run --benchmark 1 --model 4 --json",
)
def run(no_cache: bool, as_json: bool, **options: Any) -> None:
    """Run a benchmark's whole workflow on demo data.

    A container is a UID, or the path of a container_config.yaml with workspace/parameters.yaml and
    workspace/additional_files/ beside it; the benchmark provides those not given. Steps whose
    image, parameters, files and data are unchanged are answered from the cache.
    """
    from medperf_client.execution.compatibility import Scenario

    report = run_test(Scenario(**options, use_memo=not no_cache))
    if as_json:
        print_json(report)
    else:
        show_report(report)


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
    tested = {role: report[role]["name"] for role in ("data_preparator", "model", "evaluator")}
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
