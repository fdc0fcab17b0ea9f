"""What pairs have in common: one side asks to join a benchmark, the other decides."""

from collections.abc import Iterator, Mapping
from typing import Any

from medperf_cache.outbox import Reference
from medperf_client.errors import MedPerfError
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Again, Kind, News, Past, View
from medperf_client.kinds.submission import PENDING, Submission, in_path


def pair_request(kind: Kind, sides: Mapping[str, Reference], metadata: Entity) -> Submission:
    """A request that one side joins the other, with what speaks for it."""
    body = {**sides, "approval_status": PENDING, "metadata": metadata}
    return Submission(kind.name, "POST", kind.path, body)


def pair_change(kind: Kind, sides: Mapping[str, Reference], **values: Any) -> Submission:
    """A change of the newest of a pair: `approval_status`, `reason`, perhaps `priority`.

    With `id` it is that of the one that is meant: the registry refuses if a newer one is there by
    then.
    """
    path = kind.pair.format(**{side: in_path(uid) for side, uid in sides.items()})
    return Submission(kind.name, "PUT", path, values, supersedes=True)


def newest_of(kind: Kind, known: list[Entity], sides: Mapping[str, int | str]) -> Entity | None:
    """The newest of a pair among those known; None if there is none."""
    pair = [one for one in known if all(one[side] == uid for side, uid in sides.items())]
    # A plain server's have no UIDs, but places in one list.
    return max(pair, key=lambda one: int(one["id"]), default=None)


def newest_pending(
    kind: Kind, known: list[Entity], sides: Mapping[str, int | str]
) -> Entity | None:
    """The newest request of a pair among those known, if it waits for a decision."""
    newest = newest_of(kind, known, sides)
    if newest is None or newest["approval_status"] != PENDING or newest["id"] <= 0:
        return None
    return newest


def news_of_pairs(side: str, word: str) -> News:
    """Lines on requests to decide, decisions and priorities; `side` is what joins a benchmark."""

    def news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
        one = after or before
        if one is None:
            return
        pair = f"{word} {one[side]} in benchmark {one['benchmark']}"
        if after is None:
            yield f"the association of {pair} is gone from the registry"
        elif before is None and after["approval_status"] == PENDING:
            is_to_decide = view.owns("benchmark", after["benchmark"])
            if is_to_decide and not view.is_me(after.get("initiated_by")):
                yield f"a request to decide: {pair}"
        elif before is None or before["approval_status"] != after["approval_status"]:
            yield f"{pair} is {after['approval_status']}"
        elif before.get("priority") != after.get("priority"):
            yield f"{pair} has priority {after.get('priority')}"

    return news


def again_of_pairs(name: str, refers: Mapping[str, str], side: str, word: str) -> Again:
    """To say a decision again: it is on a request of the same content only."""

    def again(path: str, body: Entity, answer: Entity, past: Past) -> Entity:
        decided = answer.get("id") or body.get("id")
        ghost = past.lost(name, decided) if decided else None
        # A new request names its sides, and decides nothing.
        if side in body or ghost is None:
            return body
        pair = {one: past.successor(kind, ghost[one]) for one, kind in refers.items()}
        for found in past.all(name):
            same = (found.get("metadata") or "") == (ghost.get("metadata") or "")
            if same and all(found[one] == uid for one, uid in pair.items()):
                return {**body, "id": found["id"]} if "id" in body else body
        raise MedPerfError(
            f"the request of {word} {pair[side]} in benchmark {pair['benchmark']} that it decides "
            "is not in the registry any more: whoever made it has to send it again first"
        )

    return again
