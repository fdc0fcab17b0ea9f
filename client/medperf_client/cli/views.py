"""Showing one entity, or several, in the form that was asked for, on stdout or in a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from medperf_client.cli.base import site
from medperf_client.cli.text import print_entity, print_json
from medperf_client.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])


def view_options(function: Function) -> Function:
    """The options of `show`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts."),
        click.option(
            *("-o", "--output"),
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write it to a new file.",
        ),
        click.option(
            "-f", "--format", "form", type=click.Choice(["yaml", "json"]), help="How to write it."
        ),
        click.option("--mine", is_flag=True, help="Only what you own."),
        click.option("--unregistered", is_flag=True, help="Only what no registry has yet."),
    ):
        function = option(function)
    return function


def show(
    found: list[dict[str, Any]],
    is_one: bool,
    *,
    mine: bool,
    unregistered: bool,
    form: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show entities; the first alone if only that was asked for (`is_one`)."""
    if mine and not is_one:
        found = [one for one in found if site().is_mine(one) or isinstance(one["id"], str)]
    if unregistered and not is_one:
        found = [one for one in found if isinstance(one["id"], str)]
    value: Any = found[0] if is_one else found
    if output is not None:
        _write(output, value, "json" if as_json else form or "yaml")
    elif as_json or form == "json":
        print_json(value)
    elif form == "yaml":
        click.echo(_text(value, form), nl=False)
    else:
        for number, one in enumerate(found):
            if number:
                click.echo()
            print_entity(one)


def _write(output: Path, value: Any, form: str) -> None:
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(_text(value, form))
    except FileExistsError as error:
        raise UsageError(f"{output} is there already", "Name another file.") from error


def _text(value: Any, form: str) -> str:
    if form == "json":
        import json

        return json.dumps(value, indent=2) + "\n"
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
