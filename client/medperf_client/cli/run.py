"""`medperf run`: one model of a benchmark on a dataset, and its result released."""

from typing import Any

import click

from medperf_client.cli.base import Command, example, json_option, online_option, yes_option
from medperf_client.cli.evaluating import evaluated, model_option, run_options
from medperf_client.cli.result import is_released, release
from medperf_client.errors import MedPerfError, UsageError


@click.command(cls=Command, writes=True)
@run_options(model_option)
@yes_option
@online_option
@json_option
@example("medperf run -b 1 -d 3 -m 4")
def group(model: int | str, yes: bool, require_online: bool, as_json: bool, **options: Any) -> None:
    """Run one model of a benchmark on a dataset, show its result, and release it if you agree."""
    outcomes = evaluated(models=[model], **options)
    result = outcomes[0].result
    if result is None:
        raise MedPerfError(outcomes[0].error, f"What its containers printed: {outcomes[0].logs}")
    if is_released(result):
        raise UsageError(
            f"{result.uid} was released before, as {result.released or result.entry}",
            hint="With --no-cache the model runs again, and gives a result of its own.",
        )
    release([result], yes, require_online, as_json)
