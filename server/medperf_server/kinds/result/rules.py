"""Whose results are taken, what of them may change, and who is told of a ranking."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from werkzeug.exceptions import Forbidden

from medperf_server.base import APPROVED, PENDING, db, utc_now
from medperf_server.callers import Caller
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.table import MEMBERS, NAMES, OWNERS, PARTICIPANTS, Benchmark
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.kind import Pair
from medperf_server.kinds.pairs import newest, takes_part
from medperf_server.kinds.result import RESULT
from medperf_server.kinds.result.envelopes import FIELD
from medperf_server.kinds.result.statement import signer_of
from medperf_server.kinds.result.table import Result
from medperf_server.policy import Values, owns, refuse, require, visible


@dataclass(frozen=True)
class Sight:
    """What somebody is told of a ranking: of all sites, or of their own datasets alone (`own`);
    others by name or as "site A"; its committee also which results it is of."""

    is_whole: bool
    by_name: bool
    is_committee: bool
    own: frozenset[int]


def sight_of(caller: Caller, benchmark: Benchmark) -> Sight:
    """What the caller is told of the ranking of a benchmark that they may see.

    Its committee is told everything, and decides what others are told once it is published. Data
    owners are always told of their own results.
    """
    mine = select(Result.dataset).join(Dataset, Dataset.id == Result.dataset)
    mine = mine.where(Result.benchmark == benchmark.id, Dataset.owner == caller.id).distinct()
    committee = owns(caller, benchmark)
    return Sight(
        is_whole=committee or (benchmark.ranking_published and _is_for(caller, benchmark)),
        by_name=committee or benchmark.ranking_sites == NAMES,
        is_committee=committee,
        own=frozenset(db.session.scalars(mine)),
    )


def _is_for(caller: Caller, benchmark: Benchmark) -> bool:
    """Whether a ranking is for the caller, who is not of its committee, once it is published."""
    if benchmark.ranking_audience == PARTICIPANTS:
        pairs = (DATASET_ASSOCIATION, ASSOCIATION)
        return any(takes_part(caller, pair, benchmark.id) for pair in pairs)
    return benchmark.ranking_audience == MEMBERS


def require_sight(caller: Caller, benchmark: Benchmark) -> None:
    """Who is told something of the ranking of a benchmark that they may see."""
    sight = sight_of(caller, benchmark)
    if not sight.is_whole and not sight.own:
        is_out = benchmark.ranking_published and benchmark.ranking_audience != OWNERS
        who = "shows this ranking to owners of its models and datasets alone"
        raise Forbidden(f"The committee {who if is_out else 'has not published this ranking'}.")


def require_party(caller: Caller, uid: int) -> None:
    """Who may see a result; of one that is not there nobody but admins is told so."""
    seen = select(Result.id).where(Result.id == uid, visible(caller, RESULT))
    require(caller.is_admin or db.session.scalar(seen) is not None)


def check_result(caller: Caller, values: Values) -> None:
    """Rules for a new result: its dataset and its model are in the benchmark."""
    uid = values["benchmark"]
    seen = select(Benchmark).where(Benchmark.id == uid, visible(caller, BENCHMARK))
    benchmark = db.session.scalar(seen)
    if benchmark is None:
        refuse(f"There is no benchmark with UID {uid}", "benchmark")
    for table, field, title in ((Container, "model", "container"), (Dataset, "dataset", "dataset")):
        if db.session.get(table, values[field]) is None:
            refuse(f"There is no {title} with UID {values[field]}", field)
    if values["model"] != benchmark.reference_model_mlcube:
        _require_approved(ASSOCIATION, values["model"], uid)
    _require_approved(DATASET_ASSOCIATION, values["dataset"], uid)
    values["metadata_"] = _telling(values.get("metadata_", {}))
    values["signed_by"] = signer_of(caller, values, benchmark)


def _require_approved(pair: Pair[Any], uid: int, benchmark: int) -> None:
    """The newest between two, which nobody decides on meanwhile, is APPROVED."""
    joining = pair.sides[0].title
    entity = newest(pair, uid, benchmark)
    if entity is None:
        refuse(f"{joining.capitalize()} {uid} is not in benchmark {benchmark}: associate it first")
    if entity.approval_status != APPROVED:
        what = f"The association of {joining} {uid} with benchmark {benchmark}"
        refuse(f"{what} is {entity.approval_status}, not APPROVED")


def check_change(values: Values, entity: Result) -> None:
    """What comes with changes to a result: when it was decided."""
    if "metadata_" in values:
        values["metadata_"] = _telling(values["metadata_"])
        if values["metadata_"].get(FIELD) != entity.metadata_.get(FIELD):
            refuse("What a site signed does not change", FIELD)
    wanted = values.get("approval_status", entity.approval_status)
    if wanted != entity.approval_status:
        values["approved_at"] = None if wanted == PENDING else utc_now()


def _telling(metadata: Values) -> Values:
    """Metadata that say whether a result is partial: MedPerf's clients list no other."""
    return {"partial": False, **metadata}
