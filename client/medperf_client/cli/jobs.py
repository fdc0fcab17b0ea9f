"""`medperf jobs`: what runs of models left to a queue."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import Group, confirm, example, json_option, site, yes_option
from medperf_client.cli.evaluating import collected, end, left_to, tell_left, tell_outcomes
from medperf_client.cli.following import note_outcome
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import FAILED, MedPerfError, UsageError

if TYPE_CHECKING:  # Its help needs none of it.
    from medperf_client.execution.evaluation import Outcome
    from medperf_client.executors.elements import Element
    from medperf_client.executors.executor import Executor

# Of an element's name, what people are shown, and may type.
SHORT = 12
SHOWN = ("model", "benchmark", "dataset", "state", "job", "node", "reason", "tries")


@click.group(cls=Group)
def group() -> None:
    """See the jobs that run models in the profile's queue, collect what they gave, or end them.

    `medperf benchmark run` sends them, and collects what they gave if it is let wait.
    """


@group.command()
@json_option
@example("medperf jobs ls")
def ls(as_json: bool) -> None:
    """List what was sent and is not collected yet."""
    executor = _executor()
    rows = _rows(executor) if executor else []
    if as_json:
        print_json(rows)
        return
    print_table(
        ("ELEMENT", *(name.upper() for name in SHOWN)),
        [(str(row["element"])[:SHORT], *(row[name] for name in SHOWN)) for row in rows],
    )


@group.command(writes=True)
@json_option
@example("medperf jobs collect")
def collect(as_json: bool) -> None:
    """Keep what models gave whose jobs have ended, and wait for no other.

    What the queue has lost is sent again. Exit code 1 says that a model failed.
    """
    _executor()
    _finish(*_collected(), as_json)


@group.command(writes=True)
@json_option
@example("medperf jobs wait", "medperf jobs wait --json")
def wait(as_json: bool) -> None:
    """Wait until all jobs have ended, and keep what their models gave.

    This may be stopped: the jobs go on. Exit code 1 says that a model failed.
    """
    from medperf_client.executors.following import looking

    queue, pauses = _executor(), looking()
    outcomes, troubles = _collected()
    while queue and site().awaited.all() and not troubles:
        time.sleep(next(pauses))
        more, troubles = _collected()
        outcomes += more
    _finish(outcomes, troubles, as_json)


def _collected() -> "tuple[list[Outcome], list[Exception]]":
    """What has ended, kept and noted where it was ordered; and what kept some from being."""
    outcomes: list[Outcome] = []
    troubles: list[Exception] = []
    try:
        for note, outcome in collected():
            if isinstance(outcome, Exception):
                site().tell(f"{note.called}: {outcome}")
                troubles.append(outcome)
            else:
                note_outcome(note, outcome)
                outcomes.append(outcome)
    except MedPerfError as error:
        # What was collected before is told all the same.
        site().tell(str(error))
        troubles.append(error)
    return outcomes, troubles


def _finish(outcomes: "list[Outcome]", troubles: "list[Exception]", as_json: bool) -> None:
    tell_outcomes(outcomes, as_json)
    tell_left()
    end(outcomes)
    if troubles:
        sys.exit(FAILED)


@group.command()
@click.argument("elements", nargs=-1)
@yes_option
@example("medperf jobs cancel", "medperf jobs cancel 3f2a91c04b7d")
def cancel(elements: tuple[str, ...], yes: bool) -> None:
    """End the jobs of these elements, or all, and take back what they would have given.

    A model that is done in parts is taken back as a whole: medperf benchmark run finds what parts
    of it gave. Other models that are over stay, to be collected.
    """
    executor = _executor()
    chosen = _chosen(executor, elements)
    if executor is None or not chosen:
        click.echo("There are none.")
        return
    # One part alone would be sent again with the next look at the others.
    models = {one.part_of for one in chosen} - {""}
    chosen += [one for one in executor.all() if one.part_of in models and one not in chosen]
    confirm(f"cancel {', '.join(one.label for one in chosen)}?", yes)
    ended = executor.cancel([one.name for one in chosen])
    gone = [one for one in chosen if not executor.has(one.name)]
    models = {one.part_of for one in gone} - {""}
    for one in chosen:
        if one in gone or one.part_of in models:
            site().awaited.cancel(one.name)
    click.echo(f"Ended {len(ended)} jobs.")


@group.command()
@click.argument("elements", nargs=-1)
@example("medperf jobs logs", "medperf jobs logs 3f2a91c04b7d")
def logs(elements: tuple[str, ...]) -> None:
    """Show the last lines that jobs and their steps printed: those of these elements, or all."""
    from medperf_client.containers.supervise import last_lines

    executor = _executor()
    chosen = _chosen(executor, elements)
    if executor is None or not chosen:
        return
    seen = executor.look()
    for element in chosen:
        for log in executor.logs(element.name, seen.get(element.name)):
            click.echo(plain(f"{log}:"))
            for line in last_lines(log):
                click.echo(f"  {plain(line)}")


def _executor() -> "Executor | None":
    """The profile's queue; None, and a word about it, if it names none. Raises as `left_to`."""
    queue = left_to()
    if queue is None:
        site().tell("the profile names no queue; see executor in config.example.yaml")
    return None if queue is None else queue.executor


def _rows(executor: "Executor") -> list[dict[str, Any]]:
    from medperf_client.execution.used import together
    from medperf_client.executors.elements import is_over

    seen = executor.look()
    notes = {note.element: note for note in site().awaited.all()}
    rows = []
    for element in executor.all():
        job, note = seen.get(element.name), notes.get(element.name)
        state = job.state.value if job else "is not sent"
        if is_over(executor.place(element.name), element):
            command = "medperf jobs collect" if note else "the command that sent it"
            state = f"is over, and waits for: {command}"
        used = together(executor.used(element.name, element.steps))
        rows.append(
            {
                "element": element.name,
                "model": element.label,
                "benchmark": note and note.benchmark,
                "dataset": note and note.dataset,
                "state": state,
                "job": job.job if job else None,
                "node": job.node if job else None,
                "reason": job.reason if job else None,
                "tries": executor.tries(element.name),
                "folder": str(executor.place(element.name)),
                "used": used.record() if used else None,
            }
        )
    return rows


def _chosen(executor: "Executor | None", beginnings: Sequence[str]) -> "list[Element]":
    """The elements whose names begin so, or all. Raises `UsageError` unless each is one."""
    every = executor.all() if executor else []
    chosen = []
    for beginning in beginnings:
        found = [one for one in every if one.name.startswith(beginning)]
        if len(found) != 1:
            raise UsageError(
                f"{len(found)} elements have names that begin with {beginning!r}",
                hint="See: medperf jobs ls",
            )
        chosen += found
    return chosen if beginnings else every
