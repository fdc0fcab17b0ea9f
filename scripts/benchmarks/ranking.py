"""A ranking of 200 models at 50 sites: its figures alone, by the API, and as a page."""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.server.visitor import signed_in
from tests.support.api import Member, container_body, dataset_body
from tests.support.rankings import DESCRIBED, achieved
from tests.support.registry import Registry

from medperf_server.analysis.pooling import Estimate
from medperf_server.analysis.standing import standing

MODELS, SITES, GOAL_SECONDS = 200, 50, 1.0
HALF = 0.03


def measure(rounds: int = 5) -> dict[str, Any]:
    """Seconds for the figures (pooled, ranked, resampled), for the API's answer and for the page.

    All are against the same goal; the registry's first answer, for which it imports numpy, is not
    timed.
    """
    figures = _figures()
    estimates = [[Estimate(value, value - HALF, value + HALF) for value in row] for row in figures]
    measured = {"ranking_figures": _timed(lambda: standing(estimates, True), rounds)}
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        for registry in Registry.serving(Path(temporary) / "registry"):
            measured |= _served(registry, figures, rounds)
    return measured


def _served(registry: Registry, figures: list[list[float]], rounds: int) -> dict[str, Any]:
    """The API's answer and the page of a registry that has these figures."""
    committee = Member(registry, "committee", admin=True)
    path = f"/benchmarks/{_filled(registry, committee, figures)}/"
    visitor = signed_in(committee)

    def answer() -> None:
        # Each time another query, so that none is given from memory.
        query = f"metric=auroc&_={time.perf_counter_ns()}"
        found = committee.get(f"{path}ranking/?{query}").json()
        assert len(found["models"]) == MODELS and len(found["sites"]) == SITES

    def page() -> None:
        assert "Places in resamples" in visitor.opens(f"{path}leaderboard").text

    return {"ranking_answer": _timed(answer, rounds), "ranking_page": _timed(page, rounds)}


def _figures() -> list[list[float]]:
    """An AUROC of each model at each site: models differ, sites differ, and the rest is chance."""
    chance = random.Random(1)
    of_models = [chance.gauss(0.8, 0.04) for _ in range(MODELS)]
    of_sites = [chance.gauss(0, 0.02) for _ in range(SITES)]
    return [
        [min(max(model + site + chance.gauss(0, 0.02), 0.1), 0.95) for site in of_sites]
        for model in of_models
    ]


def _filled(registry: Registry, committee: Member, figures: list[list[float]]) -> int:
    """The UID of a benchmark with all these results, written behind the API."""
    from medperf_server.base import db
    from medperf_server.kinds.association.table import Association
    from medperf_server.kinds.benchmark.table import Benchmark
    from medperf_server.kinds.container.table import Container
    from medperf_server.kinds.dataset.table import Dataset
    from medperf_server.kinds.result.table import Result

    benchmark = int(committee.benchmark(metadata={"metrics": DESCRIBED})["id"])
    with registry.app.app_context():
        found = db.session.get_one(Benchmark, benchmark)
        found.approval_status = "APPROVED"
        models = [Container(**container_body(), owner=committee.uid) for _ in figures[1:]]
        preparator = found.data_preparation_mlcube
        sites = [Dataset(**dataset_body(preparator), owner=committee.uid) for _ in figures[0]]
        db.session.add_all([*models, *sites])
        db.session.flush()
        uids = [found.reference_model_mlcube, *(model.id for model in models)]
        common = {"benchmark": benchmark, "metadata_": {}, "approval_status": "APPROVED"}
        db.session.add_all(
            Association(model_mlcube=uid, initiated_by=committee.uid, **common) for uid in uids[1:]
        )
        db.session.add_all(
            Result(
                **{**common, "metadata_": {"partial": False}},
                owner=committee.uid,
                model=uid,
                dataset=site.id,
                results=achieved(value, HALF),
            )
            for uid, row in zip(uids, figures, strict=True)
            for site, value in zip(sites, row, strict=True)
        )
        db.session.commit()
    return benchmark


def _timed(run: Callable[[], object], rounds: int) -> dict[str, Any]:
    """The median of some rounds after a warm-up, against the goal."""
    seconds = []
    run()
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    figures = {"models": MODELS, "sites": SITES, "rounds": rounds}
    return {
        "seconds": round(median, 4),
        "ratio": round(median / GOAL_SECONDS, 3),
        "goal": 1.0,
        **figures,
    }
