"""Rankings of a benchmark's models by results, as the registry told its member of them."""

from typing import Any

from medperf_client.kinds.form import Entity, formed
from medperf_client.kinds.kind import Kind

# The catalog keeps what was answered last under the benchmark's UID, by what was asked.
RANKING = Kind(
    name="ranking",
    word="ranking of benchmark",
    form={"id": int, "answers": dict},
    is_logged=False,
    is_carried=False,
)
# Of each benchmark.
MOST_ANSWERS = 20
FORM = {
    **dict.fromkeys(("metric", "left_out"), dict),
    **dict.fromkeys(("sites", "models", "metrics"), list),
    **{"is_whole": bool, "unsure": str},
}
# Below this share of resamples a model cannot be told apart from the next.
SURE = 0.95


def ranking_checked(value: object) -> Entity:
    """A ranking as it was answered. Raises `Offline`: no registry answers like that."""
    answer = formed("ranking", FORM, value)
    formed("metric of a ranking", {"name": str, "better": str}, answer["metric"])
    for site in answer["sites"]:
        formed("site of a ranking", {"name": str, "is_own": bool}, site)
    for model in answer["models"]:
        formed("model of a ranking", {"model": int, "name": str, "results": list}, model)
    return answer


def with_answer(known: Entity | None, benchmark: int, asked: str, answer: Entity) -> Entity:
    """What the catalog keeps once one more question was answered: the newest of all answers."""
    answers = dict((known or {"answers": {}})["answers"])
    answers.pop(asked, None)
    newest = [*answers.items(), (asked, answer)][-MOST_ANSWERS:]
    return {"id": benchmark, "answers": dict(newest)}


def not_told_apart(models: list[Entity]) -> list[list[str]]:
    """Of each model of a ranking the names of those beside it that it cannot be told apart from."""
    found: list[list[str]] = [[] for _ in models]
    for at, (model, following) in enumerate(zip(models, models[1:], strict=False)):
        ahead = number(model.get("ahead"))
        if ahead is not None and ahead < SURE:
            found[at].append(following["name"])
            found[at + 1].append(model["name"])
    return found


def number(value: Any) -> float | None:
    """A figure of a ranking; None where there is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else None
