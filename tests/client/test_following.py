"""Standing orders: a site that watches runs what was approved, and releases what it was told to."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from medperf_client.datasets.orders import SOON, Order, Orders, bounds, tomorrow
from medperf_client.errors import UsageError
from tests.support.consortium import Consortium
from tests.support.hospital import Hospital, approved, direct, with_another_model
from tests.support.watching import Watching

FOLLOW = ("benchmark", "follow", "-b", "1", "-d")
MODEL = {"id": 5, "mlcube_hash": "a"}
NOON = datetime(2026, 11, 27, 12)


def results(hospital: Hospital) -> list[tuple[str, int | None]]:
    """The results at a hospital, and what the registry calls those that were released."""
    listed = hospital.member.json("result", "ls")
    return [(one["uid"], one["registered"]) for one in listed if "uid" in one]


def order_file(hospital: Hospital) -> Path:
    """Where its one order is kept."""
    (found,) = hospital.member.home.glob("registries/*/orders/*.json")
    return found


def test_what_is_approved_runs_while_somebody_watches_and_waits_for_release(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    first = with_another_model(own_consortium)
    told = hospital.member.does(*FOLLOW, uid)
    assert "medperf result submit" in told
    hospital.member.does("sync")
    assert results(hospital) == [(f"b1m2d{uid}", None)]

    watching = watch()
    said = watching.says("gave")
    assert said == f"benchmark 1 on dataset {uid}: container {first} (mlp) gave b1m{first}d{uid}\n"
    second = with_another_model(own_consortium, "again", "./main.py")
    watching.says(f"gave b1m{second}d{uid}")
    watching.end()
    (order,) = hospital.member.json("benchmark", "follow", "ls")
    assert (order["last"]["model"], order["last"]["result"]) == (second, f"b1m{second}d{uid}")
    assert order["trouble"] is None and order["failures"] == {} and order["hours"] is None
    assert "by you" in hospital.member.does("benchmark", "follow", "ls")
    assert {released for _, released in results(hospital)} == {None}
    assert len(results(hospital)) == 3


def test_results_of_an_order_go_at_once_where_the_member_said_so_and_no_others(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    model = with_another_model(own_consortium)
    order = hospital.member.json(*FOLLOW, uid, "--submit")
    assert order["releases"] and order["dataset"] == int(uid)
    watching = watch()
    assert "released, as result" in watching.says(f"b1m{model}d{uid}: released")
    watching.end()
    (there,) = direct(own_consortium, "committee").pages("/benchmarks/1/results/")
    assert (there["model"], there["dataset"]) == (model, int(uid))
    assert dict(results(hospital)) == {f"b1m2d{uid}": None, f"b1m{model}d{uid}": there["id"]}


def test_whoever_is_killed_goes_on_and_nothing_is_there_twice(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    models = [
        with_another_model(own_consortium, f"m{number}", "./" * number + "main.py")
        for number in range(1, 4)
    ]
    hospital.member.does(*FOLLOW, uid, "--submit")
    for words, err in (("running", True), ("infer", True), ("gave", False), ("released", False)):
        watching = watch()
        watching.says(words, err)
        watching.kill()
    watching = watch()
    while sum(released is not None for _, released in results(hospital)) < len(models):
        assert watching.process.poll() is None
    watching.end()
    there = list(direct(own_consortium, "committee").pages("/benchmarks/1/results/"))
    assert sorted(one["model"] for one in there) == models
    assert len(results(hospital)) == 4


def test_a_release_that_was_cut_off_before_it_was_noted_is_not_made_again(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid = approved(hospital)
    submit = ("result", "submit", "-r", f"b1m2d{uid}", "-y")
    hospital.member.does(*submit)
    (file,) = hospital.member.home.glob("registries/*/results/*.json")
    noted = json.loads(file.read_text())
    file.write_text(json.dumps({**noted, "entry": None, "released": None}))
    hospital.member.does(*submit)
    assert json.loads(file.read_text())["entry"] == noted["entry"]
    assert len(list(direct(own_consortium, "committee").pages("/benchmarks/1/results/"))) == 1


def test_a_model_that_fails_is_told_once_and_tried_again_on_another_day(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    bad = with_another_model(own_consortium, "bad", "no-such-file.py")
    hospital.member.does(*FOLLOW, uid)
    watching = watch()
    assert f"container {bad} (bad) failed" in watching.says("failed:", err=True)
    good = with_another_model(own_consortium, "good", "./main.py")
    watching.says(f"gave b1m{good}d{uid}")
    _, err = watching.end()
    assert "(bad)" not in err
    (order,) = hospital.member.json("benchmark", "follow", "ls")
    assert "no-such-file.py" in order["failures"][str(bad)]["error"]
    # A day later.
    order = json.loads(order_file(hospital).read_text())
    order["failures"][str(bad)]["until"] = "2026-01-01T00:00:00"
    order_file(hospital).write_text(json.dumps(order))
    watching = watch()
    watching.says("(bad): failed", err=True)
    third = with_another_model(own_consortium, "third", "././main.py")
    watching.says(f"gave b1m{third}d{uid}")
    watching.end()
    again = json.loads(order_file(hospital).read_text())["failures"][str(bad)]
    assert again["until"] > datetime.now().isoformat()


def test_it_runs_within_its_hours_and_no_more_once_it_is_stopped(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    model = with_another_model(own_consortium)
    later = (datetime.now().hour + 12) % 24
    hospital.member.does(*FOLLOW, uid, "--hours", f"{later}-{(later + 2) % 24}")
    # All is here, so that nothing but the hour keeps it from running.
    hospital.member.does("benchmark", "fetch", "1", "--data_uid", uid)
    own_consortium.stop()
    watching = watch()
    watching.says("cannot be reached", err=True)
    own_consortium.start()
    watching.says("answers again", err=True)
    assert results(hospital) == [(f"b1m2d{uid}", None)]
    hospital.member.does(*FOLLOW, uid)
    watching.says(f"gave b1m{model}d{uid}")
    hospital.member.does(*FOLLOW, uid, "--stop")
    assert hospital.member.json("benchmark", "follow", "ls") == []
    refused = hospital.member.run(*FOLLOW, uid, "--stop")
    assert refused.returncode == 2 and "nobody ordered" in refused.stderr


def test_what_cannot_be_signed_is_told_and_keeps_no_other_result_from_going(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    other = with_another_model(own_consortium)
    hospital.member.json("key", "create")
    hospital.member.does(*FOLLOW, uid, "--submit")
    hospital.member.does("benchmark", "run", "-b", "1", "-d", uid)
    for file in hospital.member.home.glob("registries/*/results/*.json"):
        # As if the order had asked for both, and one had a whole number beyond 2^53.
        stored = {**json.loads(file.read_text()), "ordered": True, "created_at": "2099-01-01"}
        more = {"voxels": 2**53 + 1} if stored["model"] == 2 else {}
        file.write_text(json.dumps({**stored, "results": {**stored["results"], **more}}))
    watching = watch()
    said = watching.says("cannot be signed", err=True)
    assert f"the results of b1m2d{uid} cannot be signed: voxels is 9007199254740993" in said
    watching.says(f"b1m{other}d{uid}: released")
    watching.end()
    assert dict(results(hospital))[f"b1m2d{uid}"] is None


def test_with_the_registry_away_what_was_fetched_runs_and_what_lacks_is_told_once(
    own_consortium: Consortium, hospital: Hospital, watch: Callable[[], Watching]
) -> None:
    uid = approved(hospital)
    here, away = (
        with_another_model(own_consortium, name, path)
        for name, path in (("here", "./main.py"), ("away", "././main.py"))
    )
    hospital.member.does("benchmark", "fetch", "1", "--data_uid", uid)
    hospital.member.does(*FOLLOW, uid)
    config = hospital.member.json("container", "view", str(away))["mlcube_hash"]
    next(hospital.member.home.glob(f"cache/blobs/*/{config}")).unlink()
    own_consortium.stop()
    watching = watch()
    watching.says(f"gave b1m{here}d{uid}")
    watching.says("configuration of container", err=True)
    watching.end()
    failure = json.loads(order_file(hospital).read_text())["failures"][str(away)]
    # The network may be back sooner than the next day.
    assert failure["until"] <= (datetime.now() + timedelta(hours=1)).isoformat()


def test_an_order_for_what_waits_in_the_queue_is_one_for_what_it_becomes(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    own_consortium.stop()
    assert hospital.operational() == "q1"
    hospital.member.does(*FOLLOW, "q1", "--hours", "22-6")
    own_consortium.start()
    hospital.member.does("sync")
    (order,) = hospital.member.json("benchmark", "follow", "ls")
    assert order["dataset"] == 1 == json.loads(order_file(hospital).read_text())["dataset"]
    again = hospital.member.json(*FOLLOW, "1", "--hours", "0-24")
    assert [again] == hospital.member.json("benchmark", "follow", "ls")
    assert again["hours"] == "0-24"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-b", "1"), "--data_uid"),
        (("ls", "-b", "1"), "no other option"),
        (("-b", "1", "-d", "1", "--stop", "--submit"), "--stop takes neither"),
        (("-b", "1", "-d", "1", "--hours", "noon"), "such as 22-6"),
        (("-b", "1", "-d", "1"), "set_operational -d 1"),
    ],
)
def test_orders_that_make_no_sense_are_refused(
    hospital: Hospital, words: tuple[str, ...], said: str
) -> None:
    hospital.submit()
    refused = hospital.member.run("benchmark", "follow", *words)
    assert refused.returncode == 2 and said in refused.stderr
    assert hospital.member.json("benchmark", "follow", "ls") == []


@pytest.mark.parametrize("hours", ["", "6", "6-6", "24-6", "6-25", "-1-5", "6:30-7", "6-7-8"])
def test_what_are_no_hours_is_told(hours: str) -> None:
    with pytest.raises(UsageError, match="such as 22-6"):
        bounds(hours)


def test_a_model_that_failed_is_let_be_until_its_time_or_until_it_is_another() -> None:
    order = Order("", 1, 3, "").with_failure(MODEL, "it broke", tomorrow(NOON))
    assert order.lets_be(MODEL, NOON) and order.lets_be(MODEL, NOON.replace(hour=23))
    assert not order.lets_be(MODEL, NOON + timedelta(days=1))
    assert not order.lets_be({**MODEL, "mlcube_hash": "b"}, NOON)
    assert order.is_told(MODEL, "it broke") and not order.is_told(MODEL, "it broke down")
    soon = order.with_failure(MODEL, "no network", NOON + SOON)
    assert soon.lets_be(MODEL, NOON) and not soon.lets_be(MODEL, NOON + timedelta(hours=1))


def test_what_is_noted_of_an_order_that_was_stopped_does_not_bring_it_back(tmp_path: Path) -> None:
    def same(uid: Any) -> Any:
        return uid

    orders = Orders(tmp_path, same)
    order = orders.place(1, 3, "", False)
    orders.end(orders.place(1, 3, "22-6", True))
    assert orders.note(order, lambda known: known) is None and orders.all() == []
