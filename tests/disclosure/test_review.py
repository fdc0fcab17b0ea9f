"""What a member decided on findings, and what leaves because of it."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medperf_client.disclosure.clearances import Clearances, Decisions
from medperf_client.disclosure.documents import digest
from medperf_client.disclosure.review import UNNAMED, Decision, review
from medperf_client.disclosure.rules import Allowed, Rules
from medperf_client.errors import MedPerfError

DOCUMENT = {"auc": 0.9, "deaths": 4, "age": {"mean": 61.5, "min": 19}, "label_counts": {"a": 3}}


def left_out(*keys: str) -> Decisions:
    return tuple(Decision(key, "2026-11-27", "anna@hospital.example") for key in keys)


def accepted(key: str, rule: str) -> Decision:
    return Decision(key, "2026-11-27", "anna@hospital.example", rule, "It is published")


def test_what_nobody_decided_on_is_open() -> None:
    reviewed = review(DOCUMENT, Rules(), ())
    assert [one.key for one in reviewed.open] == ["deaths", "age.min", "label_counts.a"]
    assert reviewed.document == DOCUMENT


def test_each_finding_is_decided_by_itself() -> None:
    allowed = Allowed("label_counts.*", "Public data")
    decisions = (*left_out("age.min"), accepted("deaths", "threshold"))
    reviewed = review(DOCUMENT, Rules(allowed=(allowed,)), decisions)
    assert reviewed.open == []
    assert reviewed.document == {**DOCUMENT, "age": {"mean": 61.5, "min": "redacted"}}
    record = reviewed.record()
    assert record["digest"] == digest(reviewed.document)
    assert record["redacted"] == ["age.min"]
    assert [one["because"] for one in record["accepted"]] == ["It is published"]
    assert [one["because"] for one in record["allowed"]] == ["Public data"]
    assert "anna" not in json.dumps(record)


def test_who_accepts_one_rule_at_a_key_accepts_no_other() -> None:
    document = {"load": {"sum": 100.0, "max": 90.0}}
    reviewed = review(document, Rules(), (accepted("load.max", "extremes"),))
    assert [one.rule for one in reviewed.open] == ["dominance"]


def test_what_was_left_out_is_not_named_where_its_name_tells() -> None:
    document = {"sub-01": {"n": 4}, "cases": {"sub-02": {"n": 4}}, "auc": 0.9}
    decisions = left_out("sub-01", "sub-01.n", "cases", "cases.sub-02.n")
    reviewed = review(document, Rules(), decisions)
    assert reviewed.open == [] and reviewed.document == {"cases": "redacted", "auc": 0.9}
    assert reviewed.redacted == ["cases", UNNAMED]
    assert "sub-0" not in json.dumps(reviewed.record())


def test_decisions_are_kept_and_hold_for_the_same_figures_only(tmp_path: Path) -> None:
    kept = Clearances(tmp_path / "clearances")
    kept.change(DOCUMENT, lambda known: (*known, *left_out("deaths")))
    again = Clearances(tmp_path / "clearances")
    assert again.of({**dict(reversed(DOCUMENT.items()))}) == left_out("deaths")
    assert again.of({**DOCUMENT, "deaths": 3}) == ()


def test_decisions_of_several_at_once_are_all_kept(tmp_path: Path) -> None:
    kept = Clearances(tmp_path / "clearances")

    def decide(number: int) -> None:
        kept.change(DOCUMENT, lambda known: (*known, *left_out(str(number))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decide, range(40)))
    assert {one.key for one in kept.of(DOCUMENT)} == {str(number) for number in range(40)}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "decisions": [1]}']
)
def test_decisions_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path, text: str) -> None:
    kept = Clearances(tmp_path)
    (tmp_path / f"{digest(DOCUMENT)}.json").write_text(text)
    with pytest.raises(MedPerfError, match="cannot be read"):
        kept.of(DOCUMENT)
