"""`medperf container`: see, write, submit and associate containers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from medperf_client.cli.base import (
    Group,
    Sha256,
    Uid,
    confirm,
    deliver,
    example,
    json_option,
    limit_option,
    mine_option,
    online_option,
    shown,
    site,
    yes_option,
)
from medperf_client.cli.test import run_test
from medperf_client.cli.text import (
    human_size,
    plain,
    print_entity,
    print_json,
    print_table,
    state_of,
)


@click.group(cls=Group)
def group() -> None:
    """See, write, submit and associate containers."""


@group.command()
@mine_option
@limit_option
@json_option
@example("medperf container ls --mine")
def ls(mine: bool, limit: int | None, as_json: bool) -> None:
    """List the containers of the registry."""
    containers = shown("mlcube", as_json, limit, mine)
    if as_json:
        print_json(containers)
        return
    print_table(
        ("UID", "NAME", "STATE", "VALID", "CONFIGURATION"),
        [
            (c["id"], c["name"], state_of(c), "yes" if c["is_valid"] else "no", c["git_mlcube_url"])
            for c in containers
        ],
    )


@group.command()
@click.argument("uid", type=Uid())
@json_option
@example("medperf container view 4")
def view(uid: int | str, as_json: bool) -> None:
    """Show a container."""
    here = site()
    here.freshen()
    container = here.entity("mlcube", uid)
    (print_json if as_json else print_entity)(container)


@group.command(writes=True)
@click.option("-n", "--name", required=True, help="Name, unique in the registry.")
@click.option(
    *("-c", "-m", "--container-config-file", "config_url"),
    required=True,
    help="URL, or a file to upload.",
)
@click.option(
    "-p", "--parameters-file", "parameters_url", default="", help="URL, or a file to upload."
)
@click.option(
    *("-a", "--additional-file", "additional_url"),
    default="",
    help="URL of a tar or zip archive, or an archive to upload.",
)
@click.option(
    *("--container-config-hash", "config_hash"),
    type=Sha256(),
    default="",
    help="SHA-256 of the configuration, checked.",
)
@click.option(
    "--parameters-hash", type=Sha256(), default="", help="SHA-256 of the parameters file, checked."
)
@click.option(
    "--additional-hash", type=Sha256(), default="", help="SHA-256 of the archive, checked."
)
@click.option(
    *("-i", "--image-hash"),
    type=Sha256(),
    default="",
    help="Image ID, or an image file's SHA-256, checked.",
)
@click.option("--operational", is_flag=True, help="Submit as OPERATION: ready for use, fixed.")
@yes_option
@online_option
@json_option
@example(
    "medperf container submit --name my-model \\",
    '    --container-config-file "https://example.org/container_config.yaml" \\',
    '    --parameters-file "https://example.org/parameters.yaml" \\',
    '    --additional-file "https://example.org/weights.tar.gz" --operational',
    "medperf container submit --name my-model \\",
    "    --container-config-file my_model/container_config.yaml \\",
    "    --parameters-file my_model/workspace/parameters.yaml \\",
    "    --additional-file weights.tar.gz --operational",
)
def submit(
    name: str, operational: bool, yes: bool, require_online: bool, as_json: bool, **files: Any
) -> None:
    """Submit a container by its files: their URLs, or files on this disk.

    Every file is fetched once, hashed and checked, the image too; then you see what will be sent.
    Files on this disk are uploaded, and so is an image that a configuration on this disk names by
    a path; the registry keeps them for its members. While the registry is away all waits in the
    queue.
    """
    from medperf_client.containers.hosting import HostedFiles, adopted

    here = site()
    # Until it is queued, nothing else keeps `storage gc` from what is to be uploaded.
    with here.storage.in_use():
        hosted, uploads = adopted(HostedFiles(**files), here.storage, here.own_files)
        submission = here.checker.submission(name, hosted, operational)
        submission = replace(submission, uploads=tuple(uploads.values()))
        if not yes:
            click.echo("This will be sent to the registry:", err=True)
            print_entity(submission.body, err=True)
            for path in uploads:
                size = human_size(path.stat().st_size)
                click.echo(plain(f"to upload: {path}, {size}"), err=True)
        confirm("Submit this container?", yes)
        deliver(
            submission,
            as_json,
            require_online,
            lambda container: f"Submitted container {container['id']} ({container['name']}).",
        )


@group.command(writes=True)
@click.option("-b", "--benchmark", type=Uid(), required=True, help="Benchmark UID.")
@click.option("-m", "--model_uid", type=Uid(), required=True, help="Container UID.")
@click.option("--no-cache", is_flag=True, help="Run every step of the test, even unchanged ones.")
@yes_option
@online_option
@json_option
@example("medperf container associate --benchmark 1 --model_uid 4")
def associate(
    benchmark: int | str,
    model_uid: int | str,
    no_cache: bool,
    yes: bool,
    require_online: bool,
    as_json: bool,
) -> None:
    """Request that a model joins a benchmark; the compatibility test runs first.

    While the registry is away the request waits in the queue.
    """
    from medperf_client.cli.test import show_report
    from medperf_client.execution.compatibility import Scenario
    from medperf_client.kinds.association import association_submission
    from medperf_client.kinds.submission import PENDING

    scenario = Scenario(benchmark=benchmark, model=str(model_uid), use_memo=not no_cache)
    report = run_test(scenario)
    if not as_json:
        show_report(report)
    confirm(
        f"Send this result and request association of container {model_uid} "
        f"with benchmark {benchmark}?",
        yes,
    )
    queue = site().queue
    submission = association_submission(
        queue.reference(model_uid), queue.reference(benchmark), report
    )
    deliver(
        submission,
        as_json,
        require_online,
        lambda answer: (
            "Requested. Follow it with: medperf association ls -bm"
            if answer.get("approval_status", PENDING) == PENDING
            else f"Container {model_uid} in benchmark {benchmark} is {answer['approval_status']}."
        ),
    )


@group.command()
@click.argument("kind", type=click.Choice(["data_preparator", "model", "metrics"]))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder to make; named after the kind by default.",
)
@example("medperf container create model --output my_model")
def create(kind: str, output: Path | None) -> None:
    """Write a commented template of a container, to fill in."""
    from medperf_client.containers.template import write_template

    folder = output or Path(kind)
    write_template(kind, folder)
    click.echo(f"Wrote {folder}/. Start with {folder}/container_config.yaml")
