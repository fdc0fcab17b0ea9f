"""`medperf benchmark ranking`: a benchmark's models by their results, as the registry ranks."""

import sqlite3
from collections import Counter
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

import click

from medperf_cache import CacheError
from medperf_client.cli.base import Command, Uid, example, json_option, site
from medperf_client.cli.text import plain, print_json, print_table
from medperf_client.errors import MedPerfError, Offline, UsageError

LEAVE_OUT = ("partial", "unsigned", "revoked")


@click.command(cls=Command)
@click.argument("uid", type=Uid())
@click.option("--metric", default="", help="By which; else by the one that the benchmark prefers.")
@click.option(
    "--better",
    type=click.Choice(["higher", "lower"]),
    help="Of a metric that the benchmark does not describe.",
)
@click.option(
    "--leave-out",
    type=click.Choice(LEAVE_OUT),
    multiple=True,
    help="Results that are not to count; revoked: their key was, since. May be given repeatedly.",
)
@click.option("--withdrawn", is_flag=True, help="Count withdrawn results, too.")
@json_option
@example(
    "medperf benchmark ranking 1",
    "medperf benchmark ranking 1 --metric auroc --leave-out partial --leave-out unsigned",
)
def ranking(
    uid: int | str,
    metric: str,
    better: str | None,
    leave_out: tuple[str, ...],
    withdrawn: bool,
    as_json: bool,
) -> None:
    """Rank the models of a benchmark by the results of all sites, as the registry does.

    Its committee decides who sees it, and from when. A data owner always sees their own results,
    beside what all sites found together. What was asked before is shown offline, too.
    """
    here = site()
    here.freshen()
    benchmark = here.entity("benchmark", uid)
    if isinstance(benchmark["id"], str):
        raise UsageError(f"benchmark {uid} waits in the queue: it has no results yet")
    query = {"metric": metric, "better": better or ""}
    query |= dict.fromkeys(leave_out, "false")
    query |= {"withdrawn": "true"} if withdrawn else {}
    answer = _answer(benchmark["id"], {name: value for name, value in query.items() if value})
    if as_json:
        print_json({"benchmark": benchmark["id"], **answer})
    else:
        _tell(answer)


def _answer(benchmark: int, query: dict[str, Any]) -> dict[str, Any]:
    """What the registry answers, and when (`as_of`); what it answered last, if it is away."""
    from medperf_client.kinds.ranking import RANKING, ranking_checked, with_answer

    here, asked = site(), urlencode(sorted(query.items()))
    try:
        told = here.registry.get(f"/benchmarks/{benchmark}/ranking/", **query)
        if told is None:
            raise MedPerfError(
                f"{here.profile.server_url} ranks no models of benchmark {benchmark}",
                "It is a plain MedPerf server, or shows you the benchmark no more. Its results: "
                f"medperf benchmark results {benchmark}",
            )
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        answer = {"as_of": now, **ranking_checked(told)}
    except Offline as error:
        kept = here.catalog.get(RANKING.name, benchmark) or {"answers": {}}
        if asked not in kept["answers"]:
            raise Offline(
                f"this ranking was not asked for yet while the registry could be reached: {error}",
                "Ask for it once with a network. What of it was released is in: "
                f"medperf benchmark results {benchmark}",
            ) from error
        found: dict[str, Any] = kept["answers"][asked]
        here.tell(f"the ranking is that of {found['as_of']}")
        return found
    try:
        with here.catalog.transaction():
            known = here.catalog.get(RANKING.name, benchmark)
            here.catalog.put(RANKING.name, with_answer(known, benchmark, asked, answer))
    except (CacheError, OSError, sqlite3.Error) as error:
        here.tell(f"the answer cannot be kept for when the registry is away: {error}")
    return answer


def _tell(answer: dict[str, Any]) -> None:
    """Show a ranking to people, the best model first."""
    from medperf_client.kinds.ranking import not_told_apart

    metric, models, sites = answer["metric"], answer["models"], answer["sites"]
    own = [at for at, one in enumerate(sites) if one["is_own"]]
    print_table(
        (
            *("RANK", "MODEL", "NAME", "MEAN RANK", metric["name"] or "FIGURE", "SITES"),
            *(sites[at]["name"] for at in own),
            *("NOT TOLD APART FROM", "NOTE"),
        ),
        [
            (
                *(one.get("place"), one["model"], one["name"], _figure(one.get("mean_rank"))),
                *_together(one.get("pooled")),
                *(_at(one["results"], at) for at in own),
                *(", ".join(alike), _marks(one["results"])),
            )
            for one, alike in zip(models, not_told_apart(models), strict=True)
        ],
    )
    for line in _notes(answer):
        click.echo(plain(line), err=True)


def _notes(answer: dict[str, Any]) -> list[str]:
    """What is to be known of a ranking."""
    metric = answer["metric"]
    if not answer["models"] or not answer["sites"]:
        return ["There are no results that count, or none that you are told of."]
    compared = sum(one.get("is_compared") is True for one in answer["sites"])
    notes = [f"By {metric['name']}: {metric['better']} is better."]
    if answer["is_whole"]:
        notes = [f"By {metric['name']}, at {compared} sites: {metric['better']} is better."]
        out = [one["name"] for one in answer["models"] if one.get("place") is None]
        notes += (
            [f"Not ranked, for some of these sites lack them: {', '.join(out)}."] if out else []
        )
        if answer["unsure"]:
            notes.append(f"How sure the order is, is not known: {answer['unsure']}.")
    else:
        notes.append("You are told of your own results, and of all sites together.")
    left_out = [f"{count} {why}" for why, count in answer["left_out"].items() if count]
    return notes + ([f"Left out: {', '.join(left_out)}."] if left_out else [])


def _together(pooled: Any) -> tuple[str | None, Any]:
    """What all sites found together, with its interval, and how many they are."""
    if not isinstance(pooled, dict):
        return None, None
    value, low, high = (_figure(pooled.get(name)) for name in ("value", "low", "high"))
    return (f"{value} [{low}, {high}]" if low and high else value), pooled.get("sites")


def _at(results: list[Any], place: int) -> str | None:
    found = results[place] if place < len(results) else None
    return _figure(found.get("value")) if isinstance(found, dict) else None


def _figure(value: Any) -> str | None:
    from medperf_client.kinds.ranking import number

    found = number(value)
    return None if found is None else f"{found:.4g}"


def _marks(results: list[Any]) -> str:
    """How many of a model's results are partial, unsigned and so on."""
    known = [one.get("marks") for one in results if isinstance(one, dict)]
    counts = Counter(str(mark) for marks in known if isinstance(marks, list) for mark in marks)
    return ", ".join(f"{count} {mark}" for mark, count in counts.items())
