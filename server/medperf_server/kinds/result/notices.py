"""What committees are told of results: that one arrived."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.result import RESULT
from medperf_server.kinds.result.table import Result
from medperf_server.notices.events import DAILY, Event, News, called
from medperf_server.notices.table import Notice


def told(session: Session, action: str, entity: Result) -> Iterator[News]:
    """Of a new result, who owns the benchmark."""
    if action == "created":
        benchmark = session.get_one(Benchmark, entity.benchmark)
        yield News(ARRIVED, {benchmark.owner}, RESULT, entity.id)


def _words(session: Session, notice: Notice, entity: Result) -> str:
    benchmark = session.get_one(Benchmark, entity.benchmark)
    model = session.get_one(Container, entity.model)
    where = f"{called('model', model)} arrived in {called('benchmark', benchmark)}"
    return f"result {entity.id} of {where}"


ARRIVED = Event("result", "A result arrives at my benchmark", DAILY, _words)
EVENTS = (ARRIVED,)
