"""A benchmark's models by a metric: on the data of sites, and in their compatibility tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from flask import g, render_template, request

from medperf_server.analysis.pooling import Estimate, Pooled, heterogeneity
from medperf_server.api.common import UID, find
from medperf_server.kinds.association.approved import approved, reference, tests
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.metrics import HIGHER, LOWER, metrics_of
from medperf_server.kinds.result.achieved import UNSIGNED, Choice
from medperf_server.kinds.result.ranking import Ranking, Row, ranking_of
from medperf_server.policy import owns
from medperf_server.readings import numbers, part
from medperf_server.web.blueprint import blueprint
from medperf_server.web.charts import bars
from medperf_server.web.forest import Forest, forest
from medperf_server.web.numbers import whole

MOST, MOST_METRICS = 500, 200
# Of the table that has the share of each place.
MOST_SHARES = 12


@dataclass(frozen=True)
class Tested:
    """A model's place by its test; models with the same value share one, without one there is
    none."""

    rank: int | None
    uid: int
    name: str
    owner: int
    value: float | None
    is_reference: bool


# A model, the figures of its test, and whether it is the reference model.
Entry = tuple[Any, dict[str, float], bool]


@blueprint.get(f"/benchmarks/<{UID}:uid>/leaderboard")
def leaderboard(uid: int) -> Any:
    """The models of a benchmark by a metric.

    The query chooses `metric`, `better` where the benchmark does not say, the `model` whose sites
    are drawn, and with `partial=false`, `withdrawn=true`, `unsigned=false` and `revoked=false`
    which results count.
    """
    benchmark = find(BENCHMARK, uid)
    models = approved(benchmark, MOST + 1)
    described = [metric.name for metric in metrics_of(benchmark.metadata_)]
    choice = _choice()
    metrics: list[str] = described
    entries: list[Entry] = []
    for model, report in chain([(reference(benchmark), benchmark.metadata_)], tests(models[:MOST])):
        found = numbers(part(report, "test_result"))
        # Those of the reference model come first: they are what the benchmark measures.
        metrics = list(dict.fromkeys([*metrics, *found]))[:MOST_METRICS]
        # Nothing else is shown, and reports may be large.
        kept = {name: found[name] for name in found.keys() & {choice.metric, *metrics[:1]}}
        entries.append((model, kept, not entries))
    ranking = ranking_of(benchmark, g.caller, choice, metrics)
    rows = ranked(entries, ranking.metric.name, ranking.metric.higher_is_better)
    drawn = _drawn(ranking)
    return render_template(
        "leaderboard.html",
        benchmark=benchmark,
        owns=owns(g.caller, benchmark),
        choice=choice,
        ranking=ranking,
        tested=list(zip(rows, bars([row.value for row in rows]), strict=True)),
        most=MOST if len(models) > MOST else None,
        drawn=drawn,
        plot=drawn and _by_site(ranking, drawn),
        overview=_by_model(ranking),
        sure=[row for row in ranking.rows if row.place],
        most_shares=MOST_SHARES,
        heterogeneity=heterogeneity,
        nobody_signs=_nobody_signs(ranking),
    )


def ranked(entries: list[Entry], metric: str, higher_is_better: bool) -> list[Tested]:
    """Models by a metric of their tests, best first; those without it come last, by name."""
    sign = -1 if higher_is_better else 1
    valued = sorted(
        (entry for entry in entries if metric in entry[1]),
        key=lambda entry: (sign * entry[1][metric], entry[0].name),
    )
    rows: list[Tested] = []
    for place, (model, found, is_reference) in enumerate(valued, 1):
        value = found[metric]
        rank = rows[-1].rank if rows and rows[-1].value == value else place
        rows.append(Tested(rank, model.id, model.name, model.owner, value, is_reference))
    others = sorted((e for e in entries if metric not in e[1]), key=lambda entry: entry[0].name)
    return rows + [Tested(None, m.id, m.name, m.owner, None, is_ref) for m, _, is_ref in others]


def _choice() -> Choice:
    """What the query asks for; what it has wrong counts as not said."""
    better = request.args.get("better", "")
    return Choice(
        metric=request.args.get("metric", ""),
        better=better if better in (HIGHER, LOWER) else "",
        partial=request.args.get("partial") != "false",
        withdrawn=request.args.get("withdrawn") == "true",
        unsigned=request.args.get("unsigned") != "false",
        revoked=request.args.get("revoked") != "false",
    )


def _nobody_signs(ranking: Ranking) -> bool:
    """Whether none of the results is signed, so that it is enough to say so once."""
    cells = [cell for row in ranking.rows for cell in row.cells if cell]
    return bool(cells) and all(UNSIGNED in cell.marks for cell in cells)


def _drawn(ranking: Ranking) -> Row | None:
    """The model whose sites are drawn: the one that was chosen, else the first with a figure."""
    chosen = whole(request.args.get("model", ""))
    shown = [row for row in ranking.rows if any(cell and cell.estimate for cell in row.cells)]
    return next((row for row in shown if row.model.uid == chosen), next(iter(shown), None))


def _by_site(ranking: Ranking, row: Row) -> Forest | None:
    sites = zip(ranking.sites, row.cells, strict=True)
    estimates = [(site.name, cell.estimate) for site, cell in sites if cell and cell.estimate]
    return forest(estimates, ("all sites", _as_estimate(row.pooled)) if row.pooled else None)


def _by_model(ranking: Ranking) -> Forest | None:
    return forest(_pooled(ranking.rows), None) if ranking.is_whole else None


def _pooled(rows: Sequence[Row]) -> list[tuple[str, Estimate]]:
    return [(row.model.name, _as_estimate(row.pooled)) for row in rows if row.pooled]


def _as_estimate(pooled: Pooled) -> Estimate:
    return Estimate(pooled.value, pooled.low, pooled.high)
