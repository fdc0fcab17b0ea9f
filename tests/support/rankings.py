"""A benchmark whose models were run at several sites, with what each gave."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.api import Body, Member, created
from tests.support.metrics import AUROC, LOSS
from tests.support.registry import Registry

# The AUROC of each model at each site; the reference model is the first.
FIGURES = [[0.81, 0.84, 0.78, 0.9], [0.88, 0.86, 0.91, 0.87], [0.86, 0.87, 0.83, 0.95]]


@dataclass
class Trial:
    """Who takes part in a benchmark, and the UIDs of what they have there."""

    registry: Registry
    committee: Member
    model_owner: Member
    data_owners: list[Member]
    stranger: Member
    admin: Member
    benchmark: int
    models: list[int]
    datasets: list[int]
    names: list[str]
    results: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the API has the benchmark."""
        return f"/benchmarks/{self.benchmark}/"

    @property
    def page(self) -> str:
        """Where its leaderboard is."""
        return f"/benchmarks/{self.benchmark}/leaderboard"

    def release(self, model: int, site: int, results: Body, **more: Any) -> int:
        """The UID of a new result of a model at a site, both by their numbers."""
        body = {"benchmark": self.benchmark, "model": self.models[model], "results": results}
        body |= {"dataset": self.datasets[site], **more}
        made = created(self.data_owners[site].post("/results/", body))
        self.results[model, site] = made["id"]
        return int(made["id"])

    def show(self, **settings: Any) -> None:
        """Have the committee say who sees the ranking."""
        answer = self.committee.put(self.path, settings)
        assert answer.status_code == 200, answer.text


def achieved(auroc: float, half: float = 0.03) -> Body:
    """Results of this AUROC, with an interval that is so wide in each direction."""
    return {"auroc": auroc, "auroc_ci": [auroc - half, auroc + half], "loss": 1 - auroc}


def trial(registry: Registry, figures: list[list[float]] = FIGURES, **metadata: Any) -> Trial:
    """A benchmark with models at sites; `metadata` says what its metrics mean, or nothing."""
    admin = Member(registry, "admin", admin=True)
    committee, model_owner = Member(registry, "committee"), Member(registry, "models")
    data_owners = [Member(registry, f"site{number}") for number in range(len(figures[0]))]
    described = {"test_result": {"auroc": 0.8}, **metadata}
    benchmark = committee.benchmark(metadata=described)
    approval = {"approval_status": "APPROVED"}
    assert admin.put(f"/benchmarks/{benchmark['id']}/", approval).ok
    models = [benchmark["reference_model_mlcube"]]
    for _ in figures[1:]:
        model = model_owner.container()["id"]
        body = {"model_mlcube": model, "benchmark": benchmark["id"]}
        created(model_owner.post("/mlcubes/benchmarks/", body))
        assert committee.put(f"/mlcubes/{model}/benchmarks/{benchmark['id']}/", approval).ok
        models.append(model)
    datasets = [owner.dataset(benchmark["data_preparation_mlcube"]) for owner in data_owners]
    for owner, dataset in zip(data_owners, datasets, strict=True):
        pair = {"dataset": dataset["id"], "benchmark": benchmark["id"]}
        created(owner.post("/datasets/benchmarks/", {**pair, "metadata": {"test_result": {}}}))
        path = f"/datasets/{dataset['id']}/benchmarks/{benchmark['id']}/"
        assert committee.put(path, approval).ok
    found = Trial(
        *(registry, committee, model_owner, data_owners, Member(registry, "stranger"), admin),
        benchmark["id"],
        models,
        [one["id"] for one in datasets],
        [one["name"] for one in datasets],
    )
    for model, row in enumerate(figures):
        for site, auroc in enumerate(row):
            found.release(model, site, achieved(auroc))
    return found


# Intervals that are symmetric as they are.
DESCRIBED = [
    {**AUROC, "interval": {**AUROC["interval"], "scale": "identity"}},  # type: ignore[dict-item]
    LOSS,
]
