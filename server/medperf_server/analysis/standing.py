"""How models stand that were run at several sites: pooled, ranked, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medperf_server.analysis.pooling import IDENTITY, LEVEL, Estimate, Pooled, Scale, pooled
from medperf_server.analysis.ranks import average_ranks, complete, mean_ranks, places

if TYPE_CHECKING:
    from medperf_server.analysis.resampling import Certainty

# Why it is not known how sure an order is.
NO_NUMPY, TOO_FEW = "numpy is not installed", "too few to compare"


@dataclass(frozen=True)
class Place:
    """A model's place among those that are compared, 1 for the best; models with the same mean
    rank share one. `ranks` are those at the sites that are compared."""

    place: int
    mean_rank: float
    ranks: list[float]


@dataclass(frozen=True)
class Standing:
    """How models stand. Models and sites are told by their numbers in the matrix of estimates.

    `pooled` has an entry for each model, None without any estimate. `order` has the models that are
    compared, best first, `sites` the sites at which they are, `places` a model's place. `certainty`
    is in the same order; where there is none, `unsure` says why.
    """

    pooled: list[Pooled | None]
    order: list[int]
    sites: list[int]
    places: dict[int, Place]
    certainty: Certainty | None
    unsure: str


def standing(
    estimates: Sequence[Sequence[Estimate | None]],
    higher_is_better: bool,
    level: float = LEVEL,
    scale: Scale = IDENTITY,
) -> Standing:
    """How models stand by their estimates, a row a model and a column a site.

    `level` and `scale` are those of the estimates' intervals. Each model is pooled over all sites
    that have it; models are ranked at those sites alone at which all that are ranked were run (see
    `ranks.complete`).
    """
    together = [
        pooled(known, level, scale) if (known := [one for one in row if one]) else None
        for row in estimates
    ]
    figures = [[one.value if one else None for one in row] for row in estimates]
    models, sites = complete(figures)
    by_site = [
        average_ranks(
            [one.value for row in models if (one := estimates[row][site])], higher_is_better
        )
        for site in sites
    ]
    ranks = [list(row) for row in zip(*by_site, strict=True)]
    means = mean_ranks(ranks)
    ranked = {
        model: Place(place, mean, row)
        for model, place, mean, row in zip(models, places(means), means, ranks, strict=True)
    }
    order = sorted(models, key=lambda model: ranked[model].mean_rank)
    certainty, unsure = _certainty([ranked[model].ranks for model in order])
    return Standing(together, order, sites, ranked, certainty, unsure)


def _certainty(ranks: list[list[float]]) -> tuple[Certainty | None, str]:
    if len(ranks) < 2 or len(ranks[0]) < 2:
        return None, TOO_FEW
    try:
        from medperf_server.analysis.resampling import certainty
    except ModuleNotFoundError:
        return None, NO_NUMPY
    return certainty(ranks), ""
