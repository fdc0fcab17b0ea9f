"""`medperf policy`: what a site lets run on its data, and what it lets leave it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import Group, Uid, example, json_option, site
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import FAILED, UsageError

if TYPE_CHECKING:
    from medperf_client.settings.policy import Policy

file_argument = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Group)
def group() -> None:
    """See and try what your site lets run, and lets leave it."""


@group.command()
@json_option
@example("medperf policy view")
def view(as_json: bool) -> None:
    """Show the policy that holds here, with what is at its default."""
    import yaml

    here = site()
    record = here.policy.record()
    file = here.home.policy_file
    if as_json:
        print_json({"file": str(file) if file.exists() else None, **record})
        return
    said = f"from {file}" if file.exists() else f"the default: there is no {file}"
    click.echo(plain(f"# {said}"))
    click.echo(plain(yaml.safe_dump(record, sort_keys=False, allow_unicode=False)), nl=False)


@group.command()
@click.argument("file", type=file_argument, required=False)
@click.argument("document", type=file_argument, required=False)
@click.option("-b", "--benchmark", type=Uid(), help="May this benchmark run here, and its metrics?")
@click.option("-m", "--model", type=Uid(), help="May this model, and unasked?")
@click.option("-p", "--preparator", type=Uid(), help="May this container prepare data here?")
@json_option
@example(
    "medperf policy check policy.yaml",
    "medperf policy check policy.yaml results.yaml",
    "medperf policy check --benchmark 1 --model 3",
)
def check(
    file: Path | None,
    document: Path | None,
    benchmark: int | str | None,
    model: int | str | None,
    preparator: int | str | None,
    as_json: bool,
) -> None:
    """Check a policy, and what it would say of a document: results or statistics, YAML or JSON.

    With --benchmark, --model and --preparator also whether these may run here. FILE need not be the
    policy that holds here, which is tried without one. Nothing is sent. Exit code 1 if the policy
    would hold back the document or refuse what is to run, 2 if the policy is wrong.
    """
    from medperf_client.settings.policy import load_policy

    policy = site().policy if file is None else load_policy(file)
    release = policy.release
    if release.persons == 1 and release.reviewers is not None:
        site().tell("release.reviewers does nothing: one person releases here; add: persons: 2")
    asked = {"benchmark": benchmark, "model": model, "preparator": preparator}
    if document is not None and any(asked.values()):
        raise UsageError("a document and what is to run are tried one at a time")
    if document is not None:
        refuses = _try_document(policy, document, as_json)
    elif any(asked.values()):
        refuses = _try_running(policy, benchmark, model, preparator, as_json)
    else:
        shown = file or site().home.policy_file
        said = f"{shown} is a policy." if shown.exists() else f"There is no {shown}: the default."
        print_json(policy.record()) if as_json else click.echo(plain(said))
        return
    if refuses:
        sys.exit(FAILED)


def _try_document(policy: "Policy", document: Path, as_json: bool) -> bool:
    """Tell what a policy says of a document; whether that would be held back."""
    from medperf_client import strict_yaml
    from medperf_client.disclosure.rules import check as found_in
    from medperf_client.settings.policy import WARN

    try:
        content = strict_yaml.read_results(document.read_bytes())
    except ValueError as error:
        raise UsageError(f"{document} is neither YAML nor JSON: {error}") from error
    found = found_in(content, policy.rules)
    held_back = bool(found) and policy.findings != WARN
    if as_json:
        print_json({"is_held_back": held_back, "findings": [one.record() for one in found]})
    elif found:
        print_table(("KEY", "RULE", "WHY"), [(one.key, one.rule, one.why) for one in found])
    else:
        click.echo(plain(f"{document}: nothing was found."))
    return held_back


def _try_running(
    policy: "Policy",
    benchmark: int | str | None,
    model: int | str | None,
    preparator: int | str | None,
    as_json: bool,
) -> bool:
    """Tell what a policy says of what is to run; whether any of that, if asked, is refused."""
    from medperf_client.admission.lists import BENCHMARKS, CONTAINERS, PREPARATORS, UNASKED

    here = site()
    asked: list[tuple[str, str, dict[str, Any]]] = []
    if benchmark is not None:
        found = here.entity("benchmark", benchmark)
        metrics = here.entity("mlcube", found["data_evaluator_mlcube"])
        asked += [("benchmark", BENCHMARKS, found), ("metrics", CONTAINERS, metrics)]
    if model is not None:
        found = here.entity("mlcube", model)
        asked += [("model", CONTAINERS, found), ("model, unasked", UNASKED, found)]
    if preparator is not None:
        asked.append(("preparator", PREPARATORS, here.entity("mlcube", preparator)))
    rows = []
    for what, listed, entity in asked:
        why = here.why_not(listed, entity, policy)
        rows.append({"what": what, "id": entity["id"], "name": entity["name"], "list": listed})
        rows[-1] |= {"is_admitted": not why, "why": why}
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("WHAT", "UID", "NAME", "MAY RUN"),
            [
                (one["what"], one["id"], one["name"], "yes" if one["is_admitted"] else "NO")
                for one in rows
            ],
        )
        for one in rows:
            click.echo(plain(one["why"]), err=True) if one["why"] else None
    return any(not one["is_admitted"] and one["list"] != UNASKED for one in rows)
