"""The models of a benchmark on the data of sites, by one metric: what the page and the API show.

Of each model at each site the newest result counts. What the figures say together is computed in
`analysis`; who is told what of it is a rule (`rules.sight_of`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from sqlalchemy import select

from medperf_server import links
from medperf_server.analysis.pooling import (
    IDENTITY,
    LEVEL,
    Estimate,
    Pooled,
    is_symmetric,
    standard_error,
)
from medperf_server.analysis.standing import Place, Standing, standing
from medperf_server.base import db
from medperf_server.callers import Caller
from medperf_server.kinds.association.approved import approved, reference
from medperf_server.kinds.benchmark.metrics import Metric
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.result.achieved import (
    MOST_SITES,
    REVOKED,
    Choice,
    Found,
    Names,
    datasets_of,
    left_out_of,
    newest,
)
from medperf_server.kinds.result.rules import Sight, sight_of

MOST_MODELS = 200
# A data owner who is told of no other site is told the pooled value if so many others are in it:
# with fewer it could be computed from their own what the others' is.
FEWEST_OTHERS = 3
NO_FIGURE, OUT_OF_RANGE = "no figure", "out of range"
NO_INTERVAL, BAD_INTERVAL, LOPSIDED = "no interval", "interval not usable", "interval not symmetric"


@dataclass(frozen=True)
class Model:
    """A model that is ranked."""

    uid: int
    name: str
    owner: int
    is_reference: bool


@dataclass(frozen=True)
class Site:
    """A dataset with results. Without its UID it is told as "site A"."""

    uid: int | None
    name: str
    is_own: bool
    # Whether models are ranked at it.
    is_compared: bool


@dataclass(frozen=True)
class Cell:
    """A model's result at a site: its estimate, None without a figure, and what is to be known of
    it. `result` is its UID, for who may see it, `rank` its rank where models are ranked."""

    estimate: Estimate | None
    marks: tuple[str, ...]
    result: int | None = None
    rank: float | None = None


@dataclass(frozen=True)
class Row:
    """A model: its result at each site, what they say together, and how it stands.

    `shares` has the share of resamples in which it has place 1, 2, and so on; `ahead` that in which
    it is ahead of the model in the next row. Both are None where nobody knows.
    """

    model: Model
    cells: list[Cell | None]
    pooled: Pooled | None
    place: Place | None
    shares: list[float] | None = None
    ahead: float | None = None

    @property
    def likely(self) -> tuple[int, int] | None:
        """The first and the last place of those that it has in the middle 95 % of resamples."""
        if self.shares is None:
            return None
        # Shares are of 10,000: what is behind the sixth digit is of adding them.
        until = [round(share, 6) for share in accumulate(self.shares)]
        first = next(place for place, share in enumerate(until, 1) if share > 0.025)
        last = next(place for place, share in enumerate(until, 1) if share >= 0.975)
        return first, last


@dataclass(frozen=True)
class Ranking:
    """Models by a metric at sites, as much of it as the caller is told.

    `names` are the metrics that there are. `is_whole` says whether the caller is told of all sites,
    or only of their own; then nobody has a place. `by_name` says whether they are told what sites
    are called. `unsure` says why it is not known how sure the order is. `left_out` counts the
    results that were not to count, by why; `is_cut` says that there are more models or sites than
    are looked at.
    """

    metric: Metric
    names: list[str]
    sites: list[Site]
    rows: list[Row]
    is_whole: bool
    by_name: bool
    unsure: str
    left_out: dict[str, int]
    is_cut: bool


def ranking_of(
    benchmark: Benchmark, caller: Caller, choice: Choice, known: Sequence[str] = ()
) -> Ranking:
    """The ranking of a benchmark's models, as much of it as the caller is told.

    `known` are metrics of which is known already that there are such. Who is told of their own
    results alone does not choose which others count: two pooled values would tell of a third. Who
    is told of sites by letters does not learn whose key was revoked: whose keys are is known.
    """
    sight = sight_of(caller, benchmark)
    if not sight.is_whole:
        choice = Choice(choice.metric, choice.better)
    if not sight.by_name:
        choice = replace(choice, revoked=True)
    first, found = reference(benchmark), approved(benchmark, MOST_MODELS)
    models = [Model(first.id, first.name, first.owner, True)]
    models += [Model(one.id, one.name, one.owner, False) for one in found[: MOST_MODELS - 1]]
    names = Names(benchmark, known, choice)
    datasets = datasets_of(benchmark.id, choice) if sight.is_whole or sight.own else []
    uids = [model.uid for model in models]
    told = None if sight.is_whole else sight.own
    results = newest(benchmark.id, uids, datasets[:MOST_SITES], choice, names, told)
    metric = names.metric()
    sites = _sites(benchmark, sight, datasets[:MOST_SITES])
    cells = [
        [_cell(results.get((uid, model.uid)), metric, sight, uid) for uid, _ in sites]
        for model in models
    ]
    stands = _standing(cells, metric)
    is_cut = len(found) == MOST_MODELS or len(datasets) > MOST_SITES
    tell = _of_all if sight.is_whole else _of_own
    left_out = left_out_of(benchmark.id, choice) if sight.is_whole else {}
    return Ranking(
        metric=metric,
        names=names.all,
        **tell(stands, sight, sites, models, cells),
        is_whole=sight.is_whole,
        by_name=sight.by_name,
        left_out=left_out,
        is_cut=is_cut,
    )


def _standing(cells: list[list[Cell | None]], metric: Metric) -> Standing:
    estimates = [[cell.estimate if cell else None for cell in row] for row in cells]
    level, scale = LEVEL, IDENTITY
    if metric.interval:
        level, scale = metric.interval.level, metric.interval.scale
    return standing(estimates, metric.higher_is_better, level, scale)


def _of_all(
    stands: Standing,
    sight: Sight,
    sites: list[tuple[int, str]],
    models: list[Model],
    cells: list[list[Cell | None]],
) -> dict[str, Any]:
    """What who is told of all sites is told of them: those that are compared first, the best of
    them first."""
    sure = stands.certainty
    rows = []
    for at, model in enumerate(stands.order):
        shares = sure.shares[at] if sure else None
        ahead = sure.ahead[at] if sure and at < len(sure.ahead) else None
        place = stands.places[model]
        shown = _with_ranks(cells[model], stands, place)
        rows.append(Row(models[model], shown, stands.pooled[model], place, shares, ahead))
    others = [at for at in range(len(models)) if at not in stands.places]
    for at in sorted(others, key=lambda at: (stands.pooled[at] is None, models[at].name)):
        rows.append(Row(models[at], cells[at], stands.pooled[at], None))
    named = [
        Site(
            uid if sight.by_name or uid in sight.own else None,
            name,
            uid in sight.own,
            at in stands.sites,
        )
        for at, (uid, name) in enumerate(sites)
    ]
    return {"sites": named, "rows": rows, "unsure": stands.unsure}


def _with_ranks(cells: list[Cell | None], stands: Standing, place: Place) -> list[Cell | None]:
    """A model's results, with its ranks at those sites at which models are ranked."""
    ranks = dict(zip(stands.sites, place.ranks, strict=True))
    return [cell and replace(cell, rank=ranks.get(at)) for at, cell in enumerate(cells)]


def _of_own(
    stands: Standing,
    sight: Sight,
    sites: list[tuple[int, str]],
    models: list[Model],
    cells: list[list[Cell | None]],
) -> dict[str, Any]:
    """What a data owner is told who is told of no other site: their own results beside the pooled
    values, by the models' names, for their order would tell of others."""
    own = [at for at, (uid, _) in enumerate(sites) if uid in sight.own]
    rows = []
    for model, row, pooled in zip(models, cells, stands.pooled, strict=True):
        shown = [row[at] for at in own]
        if any(shown):
            rows.append(Row(model, shown, _of_enough(pooled, shown), None))
    rows.sort(key=lambda row: (not row.model.is_reference, row.model.name))
    named = [Site(*sites[at], is_own=True, is_compared=False) for at in own]
    return {"sites": named, "rows": rows, "unsure": ""}


def _of_enough(pooled: Pooled | None, own: list[Cell | None]) -> Pooled | None:
    """A pooled value of which so many others are a part that nobody can compute what theirs are."""
    counted = sum(cell is not None and cell.estimate is not None for cell in own)
    if pooled is None or pooled.sites - counted < FEWEST_OTHERS:
        return None
    return Pooled(pooled.value, None, None, pooled.sites, pooled.method)


def _sites(benchmark: Benchmark, sight: Sight, datasets: Sequence[int]) -> list[tuple[int, str]]:
    """UIDs of datasets with the name that each has here, the caller's own first, then by name.

    Who is told no names is told letters, by which nobody learns whose they are.
    """
    known = select(Dataset.id, Dataset.name).where(Dataset.id.in_(datasets))
    names = {uid: name for uid, name in db.session.execute(known)}
    own = sorted((name, uid) for uid, name in names.items() if uid in sight.own)
    others = sorted((name, uid) for uid, name in names.items() if uid not in sight.own)
    if not sight.by_name:
        hidden = sorted(links.keyed(f"site {benchmark.id} {uid}") + f" {uid}" for _, uid in others)
        uids = [int(key.split()[1]) for key in hidden]
        others = [(f"site {letters(at)}", uid) for at, uid in enumerate(uids)]
    return [(uid, name) for name, uid in (*own, *others)]


def letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ... from 0 on."""
    rest, at = divmod(number, 26)
    return (letters(rest - 1) if rest else "") + chr(ord("A") + at)


def _cell(found: Found | None, metric: Metric, sight: Sight, dataset: int) -> Cell | None:
    if found is None:
        return None
    estimate, marks = _estimate(found.figures, metric)
    is_own = dataset in sight.own
    hidden = () if sight.by_name or is_own else (REVOKED,)
    known = tuple(mark for mark in found.marks if mark not in hidden)
    told = found.uid if sight.is_committee or is_own else None
    return Cell(estimate, (*known, *marks), told)


def _estimate(
    figures: Mapping[str, float], metric: Metric
) -> tuple[Estimate | None, tuple[str, ...]]:
    """A result's estimate by a metric, and what is to be known of it."""
    value = figures.get(metric.name)
    if value is None:
        return None, (NO_FIGURE,)
    if not metric.allows(value):
        return None, (OUT_OF_RANGE,)
    interval = metric.interval
    if interval is None:
        return Estimate(value), ()
    low, high = figures.get(interval.low), figures.get(interval.high)
    if low is None or high is None:
        return Estimate(value), (NO_INTERVAL,)
    estimate = Estimate(value, low, high)
    try:
        standard_error(estimate, interval.level, interval.scale)
    except ValueError:
        return Estimate(value), (BAD_INTERVAL,)
    return estimate, () if is_symmetric(estimate, interval.scale) else (LOPSIDED,)
