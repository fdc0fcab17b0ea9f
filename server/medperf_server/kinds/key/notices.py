"""What is told of keys: that one is revoked, so nobody takes it for its owner's any more."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.key import KEY
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.result.table import Result
from medperf_server.notices.events import AT_ONCE, Event, News, called, changed
from medperf_server.notices.table import Notice


def told(session: Session, action: str, entity: Key) -> Iterator[News]:
    """Of a key that is revoked, its owner and whoever's benchmark has results that it signed.

    Its owner also if they did it themselves: it may have been somebody with their token.
    """
    if action == "updated" and changed(entity).get("revoked_at", (entity, None))[0] is None:
        signed = select(Benchmark.owner).join(Result, Result.benchmark == Benchmark.id)
        committees = set(session.scalars(signed.where(Result.signed_by == entity.keyid).distinct()))
        yield News(REVOKED, {entity.owner}, KEY, entity.id, all_the_same=True)
        yield News(REVOKED, committees - {entity.owner}, KEY, entity.id)


def _words(session: Session, notice: Notice, entity: Key) -> str:
    whose = (
        "of yours" if entity.owner == notice.user_id else "that signed results of your benchmarks"
    )
    return f"{called('key', entity)} {whose} is revoked: its fingerprint is {entity.keyid}"


REVOKED = Event(
    "key",
    "A key of mine, or one that signed results of my benchmarks, is revoked",
    AT_ONCE,
    _words,
    listed="/keys/",
)
EVENTS = (REVOKED,)
