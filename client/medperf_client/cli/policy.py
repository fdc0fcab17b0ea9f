"""`medperf policy`: what a site lets leave it."""

import sys
from pathlib import Path

import click

from medperf_client.cli.base import Group, example, json_option, site
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import FAILED, UsageError

file_argument = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Group)
def group() -> None:
    """See and try what your site lets leave it."""


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
@click.argument("file", type=file_argument)
@click.argument("document", type=file_argument, required=False)
@json_option
@example(
    "medperf policy check policy.yaml",
    "medperf policy check policy.yaml results.yaml",
)
def check(file: Path, document: Path | None, as_json: bool) -> None:
    """Check a policy, and what it would say of a document: results or statistics, YAML or JSON.

    Nothing is sent, and it need not be the policy that holds here. Exit code 1 if the policy would
    hold the document back, 2 if the policy is wrong.
    """
    from medperf_client import strict_yaml
    from medperf_client.disclosure.rules import check as found_in
    from medperf_client.settings.policy import WARN, load_policy

    policy = load_policy(file)
    if document is None:
        print_json(policy.record()) if as_json else click.echo(plain(f"{file} is a policy."))
        return
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
    if held_back:
        sys.exit(FAILED)
