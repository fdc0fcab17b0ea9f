"""The figures of released results: of each model on each dataset the newest that counts."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, select

from medperf_server.base import db
from medperf_server.kinds.benchmark.metrics import LOWER, Metric, metrics_of
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.result.table import Result
from medperf_server.readings import MOST, numbers, numbers_of, part
from medperf_server.weights import fitting

MOST_SITES, MOST_NAMES = 100, 200
PARTIAL, WITHDRAWN, UNSIGNED = "partial", "withdrawn", "unsigned"
# Of results whose key was revoked since they were signed: with a revoked key none is taken.
REVOKED = "key revoked"


@dataclass(frozen=True)
class Choice:
    """What is asked for: a metric, which way is better if its benchmark does not say, and whether
    partial, withdrawn and unsigned results count, and those whose key was revoked since."""

    metric: str = ""
    better: str = ""
    partial: bool = True
    withdrawn: bool = False
    unsigned: bool = True
    revoked: bool = True


@dataclass(frozen=True)
class Found:
    """A result as far as it was read: its figures by name."""

    uid: int
    figures: dict[str, float]
    marks: tuple[str, ...]


class Names:
    """The names of the metrics that there are: those that are described first, then others in the
    order in which they are found."""

    def __init__(self, benchmark: Benchmark, known: Sequence[str], choice: Choice) -> None:
        described = metrics_of(benchmark.metadata_)
        self._described = {metric.name: metric for metric in described}
        self._choice = choice
        self.all = list(self._described)
        self._known = set(self.all)
        self.note(known or numbers(part(benchmark.metadata_, "test_result")))

    def note(self, names: Iterable[str]) -> None:
        """Know of these, too."""
        new = [name for name in names if name not in self._known]
        if new and len(self.all) < MOST_NAMES:
            self.all = [*self.all, *new][:MOST_NAMES]
            self._known = set(self.all)

    def figures(self, results: Any, is_told: bool) -> dict[str, float]:
        """Those of the figures of results that may be needed; what others there are is noted if it
        may be told."""
        found = numbers(results)
        if is_told:
            self.note(found)
        elif not self.all:
            return found
        wanted = self._wanted()
        if wanted <= found.keys() or len(found) < MOST:
            return {name: found[name] for name in found.keys() & wanted}
        return numbers_of(results, wanted)

    def _wanted(self) -> set[str]:
        """The figures that the chosen metric needs, and the first one, should there be no such."""
        chosen = (self._choice.metric, *self.all[:1])
        intervals = [one.interval for name in chosen if (one := self._described.get(name))]
        ends = ((one.low, one.high) for one in intervals if one)
        return {*chosen, *chain.from_iterable(ends)}

    def metric(self) -> Metric:
        """The metric that was chosen; the first if there is none of that name."""
        name = self._choice.metric
        if name not in self.all:
            name = self.all[0] if self.all else ""
        return self._described.get(name) or Metric(name, self._choice.better != LOWER)


def _counting(benchmark: int, choice: Choice) -> list[ColumnElement[bool]]:
    """Which results count."""
    counting: list[ColumnElement[bool]] = [Result.benchmark == benchmark]
    if not choice.withdrawn:
        counting.append(Result.is_valid.is_(True))
    if not choice.partial:
        counting.append(~_is_partial())
    if not choice.unsigned:
        counting.append(Result.signed_by != "")
    if not choice.revoked:
        counting.append(~_is_revoked())
    return counting


def _is_revoked() -> ColumnElement[bool]:
    """That the key which signed a result was revoked since."""
    return Result.signed_by.in_(select(Key.keyid).where(Key.revoked_at.is_not(None)))


def _is_partial() -> ColumnElement[bool]:
    """That a result says of itself that it is partial, in whatever words."""
    said = func.coalesce(cast(Result.metadata_["partial"], Text), "false")
    return said.not_in(["false", "null", "0", '""'])


def left_out_of(benchmark: int, choice: Choice) -> dict[str, int]:
    """How many results were not to count, by why."""
    reasons = {
        PARTIAL: (choice.partial, _is_partial()),
        WITHDRAWN: (choice.withdrawn, ~Result.is_valid),
        UNSIGNED: (choice.unsigned, Result.signed_by == ""),
        REVOKED: (choice.revoked, _is_revoked()),
    }
    counted = select(func.count(Result.id)).where(Result.benchmark == benchmark)
    return {
        why: db.session.scalar(counted.where(which)) or 0
        for why, (counts, which) in reasons.items()
        if not counts
    }


def datasets_of(benchmark: int, choice: Choice) -> Sequence[int]:
    """The datasets of which there are results that count, one more than MOST_SITES at most."""
    found = select(Result.dataset).where(*_counting(benchmark, choice)).distinct()
    return db.session.scalars(found.order_by(Result.dataset).limit(MOST_SITES + 1)).all()


def newest(
    benchmark: int,
    models: Sequence[int],
    datasets: Sequence[int],
    choice: Choice,
    names: Names,
    told: Collection[int] | None,
) -> dict[tuple[int, int], Found]:
    """By dataset and model the newest result that counts, a few in memory at a time.

    `names` learns what figures there are on the datasets that are `told`, None for all.
    """
    last = select(func.max(Result.id)).where(
        *_counting(benchmark, choice),
        Result.model.in_(models),
        Result.dataset.in_(datasets),
    )
    flags = (_is_partial().label("is_partial"), _is_revoked().label("is_revoked"))
    weight = func.length(cast(Result.results, Text)).label("weight")
    columns = (Result.id, Result.dataset, Result.model, Result.is_valid, Result.signed_by)
    chosen = select(*columns, *flags, weight).where(
        Result.id.in_(last.group_by(Result.dataset, Result.model))
    )
    rows = db.session.execute(chosen.order_by(Result.dataset, Result.id)).all()
    found: dict[tuple[int, int], Found] = {}
    while rows:
        some = fitting((row, row.weight) for row in rows)
        uids = [row.id for row in some]
        read = db.session.execute(select(Result.id, Result.results).where(Result.id.in_(uids)))
        results = {uid: value for uid, value in read}
        for row in some:
            value = results.pop(row.id)
            figures = names.figures(value, told is None or row.dataset in told)
            found[row.dataset, row.model] = Found(row.id, figures, _marks(row))
        rows = rows[len(some) :]
    return found


def _marks(row: Any) -> tuple[str, ...]:
    """What is to be known of a result, whatever its figures are."""
    said = {
        PARTIAL: row.is_partial,
        WITHDRAWN: not row.is_valid,
        UNSIGNED: not row.signed_by,
        REVOKED: row.is_revoked,
    }
    return tuple(mark for mark, is_so in said.items() if is_so)
