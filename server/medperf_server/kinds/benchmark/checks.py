"""What may be wrong with benchmarks."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from medperf_server.base import APPROVED, DEVELOPMENT
from medperf_server.checks import Finding, uids
from medperf_server.kinds.benchmark.approval import content_digest
from medperf_server.kinds.benchmark.table import Benchmark


def findings(session: Session) -> Iterator[Finding]:
    """Whether what is approved stays as whoever approved it saw it."""
    benchmarks = session.scalars(select(Benchmark).order_by(Benchmark.id)).all()
    open_ones = uids(
        one for one in benchmarks if (one.approval_status, one.state) == (APPROVED, DEVELOPMENT)
    )
    mend = "an older version allowed it; their owners put them into OPERATION, or reject them"
    yield Finding(
        "what is approved is in OPERATION", open_ones and f"benchmarks {open_ones} are not: {mend}"
    )
    changed = uids(
        one
        for one in benchmarks
        if one.approved_digest and one.approved_digest != content_digest(one)
    )
    mend = "medperf-server audit ls tells who did it; reject them, or restore a backup"
    yield Finding(
        "benchmarks are what was approved", changed and f"not benchmarks {changed}: {mend}"
    )
