"""Standing orders of a site: run each newly approved model of a benchmark on a dataset."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from medperf_cache.locks import hold
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.execution.results import RealUid
from medperf_client.files import read_versioned, versioned, write_atomically
from medperf_client.kinds.container import PINS
from medperf_client.kinds.form import Entity

FORMAT = 1
# What could not be had is asked for again after this, what failed on another day.
SOON = timedelta(hours=1)


@dataclass(frozen=True)
class Order:
    """That the models of a benchmark run on a dataset as they are approved, since a time in UTC.

    Only within the `hours`, such as `22-6`, if there are any. It `releases` what they give at once.
    `trouble` is what keeps all of them from running. `failures` are by the UID of the model: what
    it was (`of`), the `error`, and the local time `until` which it is let be. `last` is what became
    of the model that ran last.
    """

    name: str
    benchmark: int | str
    dataset: int | str
    since: str
    hours: str = ""
    releases: bool = False
    trouble: str = ""
    failures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What people are shown of it."""
        return f"benchmark {self.benchmark} on dataset {self.dataset}"

    def is_within(self, moment: datetime) -> bool:
        """Whether it may run then, in local time.

        >>> order = Order("", 1, 3, "", "22-6")
        >>> [order.is_within(datetime(2026, 11, 27, hour)) for hour in (21, 22, 0, 5, 6)]
        [False, True, True, True, False]
        """
        if not self.hours:
            return True
        begin, end = bounds(self.hours)
        hour = moment.hour
        return begin <= hour < end if begin < end else hour >= begin or hour < end

    def lets_be(self, model: Entity, now: datetime) -> bool:
        """Whether a model failed that is the same still, and it is not time to try it again."""
        known = self.failures.get(str(model["id"]))
        return bool(known and known["of"] == pinned(model) and now.isoformat() < known["until"])

    def is_told(self, model: Entity, error: str) -> bool:
        """Whether it was told that a model failed so."""
        known = self.failures.get(str(model["id"]), {})
        return (known.get("of"), known.get("error")) == (pinned(model), error)

    def with_failure(self, model: Entity, error: str, until: datetime) -> "Order":
        """The same once a model has failed, which is let be until then, in local time."""
        failure = {"of": pinned(model), "error": error, "until": until.isoformat()}
        return replace(self, failures={**self.failures, str(model["id"]): failure})

    def record(self) -> Entity:
        """The same as JSON, for scripts."""
        fields = {name: value for name, value in asdict(self).items() if name != "name"}
        return {**fields, "hours": self.hours or None, "trouble": self.trouble or None}


def pinned(model: Entity) -> str:
    """SHA-256 of what pins a container's content: another one is another model."""
    pins = json.dumps([model.get(name) for name in PINS])
    return hashlib.sha256(pins.encode()).hexdigest()


def tomorrow(now: datetime) -> datetime:
    """When the next day begins."""
    return datetime(now.year, now.month, now.day) + timedelta(days=1)


def bounds(hours: str) -> tuple[int, int]:
    """The first hour, and the one before which it ends. Raises `UsageError` for other words.

    >>> bounds("22-6")
    (22, 6)
    """
    found = re.fullmatch("([0-9]{1,2})-([0-9]{1,2})", hours)
    begin, end = map(int, found.groups()) if found else (0, 0)
    if begin > 23 or end > 24 or begin == end:
        raise UsageError(
            f"--hours {hours!r}: expected two hours of the day, such as 22-6 for from 22:00 to 6:00"
        )
    return begin, end


class Orders:
    """The standing orders of one member at this site, a file each.

    `real_uid` tells what the queue's own UIDs have become.
    """

    def __init__(self, folder: Path, real_uid: RealUid) -> None:
        self._folder, self._real_uid = folder, real_uid

    def all(self) -> list[Order]:
        """Every order, by its file's name."""
        return [self._read(path) for path in sorted(self._folder.glob("*.json"))]

    def find(self, benchmark: int | str, dataset: int | str) -> Order | None:
        """The order for these two, if there is one."""
        pair = (self._real_uid(benchmark), self._real_uid(dataset))
        return next((one for one in self.all() if (one.benchmark, one.dataset) == pair), None)

    def place(self, benchmark: int | str, dataset: int | str, hours: str, releases: bool) -> Order:
        """Order it, or in other words than before: what ran stays known."""
        with self._alone():
            known = self.find(benchmark, dataset) or Order(
                f"b{benchmark}d{dataset}", self._real_uid(benchmark), self._real_uid(dataset), ""
            )
            return self._store(replace(known, since=utc_now(), hours=hours, releases=releases))

    def end(self, order: Order) -> None:
        """Have it stand no more."""
        with self._alone():
            self._path(order).unlink(missing_ok=True)

    def note(self, order: Order, change: Callable[[Order], Order]) -> Order | None:
        """Store what became of an order, as it is by now; None if it stands no more."""
        with self._alone():
            if not self._path(order).exists():
                return None
            return self._store(change(self._read(self._path(order))))

    def bind(self) -> None:
        """Write down the UIDs that the registry has given by now, before the queue forgets them."""
        for order in self.all():
            self.note(order, lambda known: known)

    def _alone(self) -> Any:
        return hold(self._folder / "lock", "another medperf process changes the standing orders")

    def _path(self, order: Order) -> Path:
        return self._folder / f"{order.name}.json"

    def _store(self, order: Order) -> Order:
        fields = {name: value for name, value in asdict(order).items() if name != "name"}
        write_atomically(self._path(order), versioned(FORMAT, fields))
        return order

    def _read(self, path: Path) -> Order:
        try:
            order = Order(path.stem, **read_versioned(FORMAT, path))
            return replace(
                order,
                benchmark=self._real_uid(order.benchmark),
                dataset=self._real_uid(order.dataset),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise MedPerfError(
                f"the standing order {path} cannot be read: {error}",
                "Delete it, and order it anew with: medperf benchmark follow",
            ) from error


def utc_now() -> str:
    """The time in UTC, as results have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
