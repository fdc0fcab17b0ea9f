"""Test reports on pages: the request's, and the leaderboard's."""

import re
from typing import Any

import pytest

from medperf_server.readings import LONGEST, MOST, numbers
from medperf_server.web.charts import Bar, bars
from medperf_server.web.reports import others, side_by_side, steps
from tests.server.visitor import Visitor, signed_in, table_of
from tests.support.api import Body, Member, NewMember, created
from tests.support.registry import Registry


def nested(depth: int) -> Any:
    """A number inside as many objects."""
    return {"in": nested(depth - 1)} if depth else 1


def test_numbers_are_found_wherever_a_report_has_them() -> None:
    results = {"auroc": 0.9, "classes": [{"f1": 1}, {"f1": 0}], "loss": -1.5, "top": {"k": 1e-9}}
    assert numbers(results) == {
        "auroc": 0.9,
        "classes/0/f1": 1.0,
        "classes/1/f1": 0.0,
        "loss": -1.5,
        "top/k": 1e-9,
    }
    assert others(results) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no value"),
        (True, "true"),
        ("", "an empty text"),
        ("0.9", "the text “0.9”"),
        ("x" * 999, f"the text “{'x' * LONGEST}…”"),
        (10**400, "a number too large to be shown"),
        ([], "empty"),
    ],
)
def test_what_is_no_number_is_told(value: Any, words: str) -> None:
    assert numbers({"auroc": value}) == {}
    assert others({"auroc": value}) == {"auroc": words}


def test_what_is_nested_too_deep_is_told() -> None:
    assert list(numbers(nested(6)).values()) == [1.0]
    assert list(others(nested(7)).values()) == ["nested too deep to be shown"]


@pytest.mark.parametrize("results", [None, [], {}, "passed", True])
def test_a_report_without_numbers_has_none(results: Any) -> None:
    assert numbers(results) == {}


def test_a_report_that_is_a_number_has_one() -> None:
    assert numbers(0.5) == {"result": 0.5}


def test_of_a_huge_report_not_everything_is_shown() -> None:
    huge = {f"{'name' * 999}{number}": number for number in range(MOST * 2)}
    assert len(numbers({"inner": huge, "list": list(range(MOST * 2))})) <= MOST
    assert all(len(name) < LONGEST + 20 for name in numbers({"inner": huge}))


def test_metrics_stand_beside_the_references() -> None:
    metrics = side_by_side(
        {"test_result": {"b": 1, "a": 2}}, {"test_result": {"a": 3, "only the reference's": 4}}
    )
    assert [(one.name, one.value, one.reference) for one in metrics] == [
        ("b", 1.0, None),
        ("a", 2.0, 3.0),
        ("only the reference's", None, 4.0),
    ]


@pytest.mark.parametrize(
    "report", [None, {}, {"test_steps": None}, {"test_steps": "infer"}, {"test_steps": {"a": 1}}]
)
def test_a_report_may_have_no_steps(report: Any) -> None:
    assert steps(report, report) == []


def test_steps_of_whatever_form_are_read_as_far_as_they_can_be() -> None:
    listed = ["infer", {"step": ["x"], "seconds": "soon"}, {"step": " ", "seconds": 2, "source": 3}]
    listed.append({"step": "infer", "seconds": 1.5, "source": "cache"})
    found = steps({"test_steps": listed}, {"test_steps": [{"step": "infer", "seconds": 3}]})
    assert [(step.name, step.seconds, step.reference, step.source) for step in found] == [
        ("(no name)", None, None, ""),
        ("(no name)", None, None, ""),
        ("(no name)", 2.0, None, ""),
        ("infer", 1.5, 3.0, "cache"),
    ]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], []),
        ([None], [(0, 0)]),
        ([0.0], [(0, 0)]),
        ([0.5, 0.25, None], [(0, 100), (0, 50), (0, 0)]),
        ([1.0, -3.0], [(75, 25), (0, 75)]),
        ([-2.0, -1.0], [(0, 100), (50, 50)]),
        ([9e299, -9e299], [(50, 50), (0, 50)]),
    ],
)
def test_bars_reach_from_zero_to_their_value(
    values: list[float | None], drawn: list[tuple[float, float]]
) -> None:
    assert [(bar.start, bar.length) for bar in bars(values)] == drawn


def test_bars_know_where_zero_is() -> None:
    assert bars([1.0, -3.0]) == [Bar(75, 25, 75), Bar(0, 75, 75)]


@pytest.fixture
def visitor(served: Registry, committee: Member) -> Visitor:
    """The committee's browser."""
    visitor = signed_in(committee)
    return visitor


@pytest.fixture
def benchmark(committee: Member, admin: Member) -> Body:
    """An approved benchmark, whose reference model has an AUROC of 0.9."""
    metadata = {"test_result": {"auroc": 0.9}, "test_steps": [{"step": "infer", "seconds": 4}]}
    benchmark = committee.benchmark(metadata=metadata)
    response = admin.put(f"/benchmarks/{benchmark['id']}/", {"approval_status": "APPROVED"})
    assert response.status_code == 200, response.text
    return benchmark


def request_for(owner: Member, model: int, benchmark: int, results: Any) -> int:
    """The UID of a new request, with a test of these results."""
    metadata = {"test_result": results, "test_steps": [{"step": "infer", "seconds": 2}]}
    body = {"model_mlcube": model, "benchmark": benchmark, "metadata": metadata}
    return int(created(owner.post("/mlcubes/benchmarks/", body))["id"])


def decide(committee: Member, model: int, benchmark: int, status: str) -> None:
    """The committee's decision on the newest request."""
    path = f"/mlcubes/{model}/benchmarks/{benchmark}/"
    response = committee.put(path, {"approval_status": status})
    assert response.status_code == 200, response.text


def test_a_request_shows_its_test_beside_the_references(
    visitor: Visitor, benchmark: Body, model_owner: Member
) -> None:
    model = model_owner.container()["id"]
    uid = request_for(model_owner, model, benchmark["id"], {"auroc": 0.95, "note": "<i>fine</i>"})
    page = visitor.opens(f"/associations/{uid}").text
    assert table_of(page, "Metrics on")[0][:3] == ["auroc", "0.95", "0.9"]
    assert table_of(page, "How long")[0][:3] == ["infer", "2", "4"]
    # Lengths in percent: the longest bar of each chart is full.
    assert re.findall(r'width="([\d.]+%)"', page) == ["100.0%", "94.7%", "50.0%", "100.0%"]
    assert "the text “&lt;i&gt;fine&lt;/i&gt;”" in page and "<i>" not in page


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"test_result": None, "test_steps": None},
        {"test_result": [[[1], 2], {"": {"": 3}}], "test_steps": [1, None, {}]},
        {"test_result": {"a": 1e308, "b": -1e308, "c": 10**400}, "test_steps": {"step": 1}},
        {"test_result": nested(60)},
    ],
)
def test_a_request_with_any_report_has_a_page(
    visitor: Visitor, benchmark: Body, model_owner: Member, committee: Member, metadata: Any
) -> None:
    model = model_owner.container()["id"]
    body = {"model_mlcube": model, "benchmark": benchmark["id"], "metadata": metadata}
    uid = created(model_owner.post("/mlcubes/benchmarks/", body))["id"]
    assert visitor.opens(f"/associations/{uid}").status_code == 200
    decide(committee, model, benchmark["id"], "APPROVED")
    assert visitor.opens(f"/benchmarks/{benchmark['id']}/leaderboard").status_code == 200


def test_requests_are_found_by_the_names_of_model_and_benchmark(
    visitor: Visitor, benchmark: Body, model_owner: Member
) -> None:
    models = [model_owner.container() for _ in range(2)]
    for model in models:
        request_for(model_owner, model["id"], benchmark["id"], {})
    caption = "Requests to take a model"
    for search, expected in ((models[0]["name"], 1), (benchmark["name"], 2), ("nothing", 0)):
        page = visitor.opens(f"/associations/?q={search}").text
        found = [row for row in table_of(page, caption) if row != ["None."]]
        assert len(found) == expected, search
        assert all(row[2:4] == [models[0]["name"], benchmark["name"]] for row in found[1:])


def test_the_committee_sets_a_priority_and_the_model_owner_cannot(
    visitor: Visitor, served: Registry, benchmark: Body, model_owner: Member
) -> None:
    model = model_owner.container()["id"]
    path = f"/associations/{request_for(model_owner, model, benchmark['id'], {})}"
    assert "Saved." in visitor.fills(path, {"priority": "7"}, on=path).text
    assert "whole number" in visitor.fills(path, {"priority": "high"}, on=path).text
    owners = signed_in(model_owner)
    assert 'name="priority"' not in owners.opens(path).text
    assert owners.fills(path, {"priority": "9"}).status_code == 403
    pair = model_owner.get(f"/mlcubes/{model}/benchmarks/{benchmark['id']}/").json()
    assert [one["priority"] for one in pair] == [7]


def test_a_withdrawn_request_is_rejected_and_an_earlier_one_stays_to_be_seen(
    served: Registry, benchmark: Body, model_owner: Member
) -> None:
    model = model_owner.container()["id"]
    first = f"/associations/{request_for(model_owner, model, benchmark['id'], {})}"
    visitor = signed_in(model_owner)
    page = visitor.opens(first).text
    assert "Withdraw" in page and ">Approve<" not in page
    reason = {"approval_status": "REJECTED", "reason": "The wrong weights"}
    page = visitor.fills(first, reason).text
    assert "The request is rejected." in page and "The wrong weights" in page
    command = f"medperf container associate --benchmark {benchmark['id']} --model_uid {model}"
    assert command in page
    second = request_for(model_owner, model, benchmark["id"], {})
    assert f'href="{first}"' in visitor.opens(f"/associations/{second}").text
    # What is decided stays so.
    again = visitor.fills(first, {"approval_status": "REJECTED"})
    assert f"the newest of this model and this benchmark is {second}" in again.text


def places(page: str) -> list[list[str]]:
    """Place, model and figure of each row of a leaderboard."""
    return [[row[0], row[1].partition(" ")[0], row[2]] for row in table_of(page, "Approved models")]


def test_the_leaderboard_ranks_the_newest_approved_test_of_each_model(
    visitor: Visitor, benchmark: Body, committee: Member, join: NewMember
) -> None:
    owner, uid = join("owner"), benchmark["id"]
    first, tied, worst, without, rejected, pending = (owner.container() for _ in range(6))
    for model, results in (
        (first, {"auroc": 0.99, "loss": 3}),
        (tied, {"auroc": 0.9, "loss": 1}),
        (worst, {"auroc": -0.5}),
        (without, {"auroc": "high"}),
        (rejected, {"auroc": 1}),
        (pending, {"auroc": 1}),
    ):
        request_for(owner, model["id"], uid, results)
        if model is not pending:
            status = "REJECTED" if model is rejected else "APPROVED"
            decide(committee, model["id"], uid, status)
    reference = committee.get(f"/mlcubes/{benchmark['reference_model_mlcube']}/").json()["name"]
    path = f"/benchmarks/{uid}/leaderboard"
    in_second = sorted([tied["name"], reference])
    assert places(visitor.opens(path).text) == [
        ["1", first["name"], "0.99"],
        ["2", in_second[0], "0.9"],
        ["2", in_second[1], "0.9"],
        ["4", worst["name"], "-0.5"],
        ["–", without["name"], "–"],
    ]
    lowest = places(visitor.opens(f"{path}?metric=loss&better=lower").text)
    assert lowest[:2] == [["1", tied["name"], "1"], ["2", first["name"], "3"]]
    assert {row[0] for row in lowest[2:]} == {"–"} and len(lowest) == 5
    # A metric that no test has is not an error.
    assert places(visitor.opens(f"{path}?metric=none&better=x").text)[0][1] == first["name"]


def test_the_reference_model_has_one_place(
    visitor: Visitor, benchmark: Body, committee: Member
) -> None:
    model, uid = benchmark["reference_model_mlcube"], benchmark["id"]
    body = {"model_mlcube": model, "benchmark": uid, "metadata": {"test_result": {"auroc": 0.1}}}
    created(committee.post("/mlcubes/benchmarks/", body))
    page = visitor.opens(f"/benchmarks/{uid}/leaderboard").text
    assert [row[2] for row in places(page)] == ["0.9"]
    assert "demo data" in page
