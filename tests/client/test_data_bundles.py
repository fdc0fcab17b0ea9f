"""What of datasets goes across an air gap: what a run needs, and what whoever reads it may know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.bundle import read_head
from tests.support.consortium import Consortium, Member
from tests.support.hospital import (
    REQUEST,
    Hospital,
    approved,
    as_committee,
    direct,
    with_another_model,
)


def taking_part(hospital: Hospital) -> str:
    """A dataset that is approved in the benchmark, with one result; its UID."""
    uid, member = approved(hospital), hospital.member
    member.does("result", "submit", "--all", "-b", "1", "-d", uid, "-y")
    member.does("sync")
    return uid


@pytest.fixture
def island(own_consortium: Consortium, tmp_path: Path) -> Member:
    """A machine without a network, and without a token."""
    member = Member(tmp_path / "island", own_consortium.registry.url)
    member.does("profile", "set", "allow_process", "true")
    member.environment |= {"MEDPERF_OFFLINE": "1"}
    return member


@pytest.fixture
def other(own_consortium: Consortium, tmp_path: Path) -> Iterator[Hospital]:
    """Another hospital, which knows the registry."""
    folder = tmp_path / "other hospital"
    folder.mkdir()
    other = Hospital(own_consortium, "other", folder)
    other.member.does("sync")
    yield other


def offline(member: Member, *words: str) -> Any:
    """What a member is told without a network."""
    return member.json(*words, "--offline")


def test_all_that_a_run_on_a_dataset_needs_comes_once_it_is_approved(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    model = with_another_model(own_consortium)
    uid, member = hospital.operational(), hospital.member
    fetch = ("benchmark", "fetch", "1", "--data_uid", uid)
    early = member.run(*fetch)
    assert early.returncode == 1 and f"once dataset {uid} is approved" in early.stderr
    member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    as_committee(own_consortium).does(*REQUEST, uid, "-y")
    parts = member.json(*fetch)["parts"]
    assert {f"container {model} (mlp)"} < {part["of"] for part in parts}
    own_consortium.stop()
    outcomes = member.json("benchmark", "run", "-b", "1", "-d", uid)
    assert [(one["model"], one["error"]) for one in outcomes] == [(model, None), (2, None)]


def test_nothing_is_fetched_for_a_dataset_that_another_container_prepares(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    options = own_consortium.container_options("model_mlp")
    committee = as_committee(own_consortium)
    made = committee.json("container", "submit", "--name", "else", *options, "-y")
    paths = ("-d", str(hospital.data / "measurements"), "-l", str(hospital.data / "diagnoses"))
    words = ("dataset", "submit", "-p", str(made["id"]), *paths, "--name", "x", "-y")
    uid = str(hospital.member.json(*words)["id"])
    refused = hospital.member.run("benchmark", "fetch", "1", "--data_uid", uid)
    assert refused.returncode == 2 and "wants container 1" in refused.stderr


def test_a_machine_without_network_runs_all_models_on_a_dataset_that_was_carried_there(
    own_consortium: Consortium, hospital: Hospital, island: Member, tmp_path: Path
) -> None:
    model = with_another_model(own_consortium)
    uid, member = taking_part(hospital), hospital.member
    member.does("benchmark", "fetch", "1", "--data_uid", uid)
    bundle = str(tmp_path / "run.bundle")
    member.does("bundle", "export", bundle, "--benchmark", "1")
    file = member.json("dataset", "export", "-d", uid, "-o", str(tmp_path))["file"]

    island.does("bundle", "import", bundle)
    (known,) = island.json("dataset", "ls", "--mine")
    assert known["report"]["execution_status"] == "finished"
    island.does("dataset", "import", "-d", uid, "-i", file)
    outcomes = island.json("benchmark", "run", "-b", "1", "-d", uid)
    assert [(one["model"], one["error"]) for one in outcomes] == [(model, None), (2, None)]
    # What was released before is known, and what is new may be.
    assert [one["registered"] for one in island.json("result", "ls") if "uid" not in one] == [1]
    island.does("result", "submit", "-r", f"b1m{model}d{uid}", "-y")
    queue = str(tmp_path / "queue.bundle")
    island.does("bundle", "export", queue, "--queue")
    assert len(member.json("sync", "--bundle", queue)["sent"]) == 1
    assert len(list(direct(own_consortium, "committee").pages("/benchmarks/1/results/"))) == 2


def test_what_another_member_takes_of_a_bundle_is_what_all_may_see(
    hospital: Hospital, other: Hospital, tmp_path: Path
) -> None:
    uid = taking_part(hospital)
    for words in ((), ("--benchmark", "1")):
        bundle = str(tmp_path / f"{len(words)}.bundle")
        hospital.member.does("bundle", "export", bundle, *words)
        other.member.does("bundle", "import", bundle)
        (seen,) = offline(other.member, "dataset", "ls")
        assert seen["id"] == int(uid) and seen["state"] == "OPERATION"
        assert not {"owner", "report"} & seen.keys()
        assert offline(other.member, "result", "ls") == []
        assert offline(other.member, "association", "ls", "-bd") == []


def test_a_member_stays_the_owner_of_what_others_bundles_tell_of(
    hospital: Hospital, other: Hospital, tmp_path: Path
) -> None:
    uid = hospital.submit()
    elsewhere = hospital.elsewhere("second")
    elsewhere.member.does("sync")
    hospital.member.does("dataset", "prepare", "-d", uid)
    hospital.member.does("dataset", "set_operational", "-d", uid, "-y")
    other.member.does("sync")
    other.member.does("bundle", "export", str(tmp_path / "bundle"))
    (before,) = offline(elsewhere.member, "dataset", "ls", "--mine")
    assert before["state"] == "DEVELOPMENT"
    told = elsewhere.member.run("bundle", "import", str(tmp_path / "bundle"))
    assert told.returncode == 0
    (after,) = offline(elsewhere.member, "dataset", "ls", "--mine")
    assert after["owner"] == before["owner"] and after["report"] == before["report"]


def test_the_committee_hands_on_a_benchmark_without_what_it_knows_of_its_datasets(
    own_consortium: Consortium, hospital: Hospital, island: Member, tmp_path: Path
) -> None:
    uid = taking_part(hospital)
    committee = as_committee(own_consortium)
    assert len(committee.json("result", "ls", "-b", "1")) == 1
    committee.does("bundle", "export", str(tmp_path / "bundle"), "--benchmark", "1")
    island.does("bundle", "import", str(tmp_path / "bundle"))
    (seen,) = island.json("dataset", "ls")
    assert seen["id"] == int(uid) and not {"owner", "report"} & seen.keys()
    assert island.json("result", "ls") == island.json("association", "ls", "-bd") == []


def test_no_bundle_carries_data_labels_or_predictions(hospital: Hospital, tmp_path: Path) -> None:
    uid = taking_part(hospital)
    private = hospital.member.home / "registries"
    kept = {path.name for path in private.glob("*/datasets/.private/content/*/*/*")}
    assert len(kept) > 3
    for words in ((), ("--benchmark", "1")):
        bundle = tmp_path / f"{uid}-{len(words)}.bundle"
        hospital.member.does("bundle", "export", str(bundle), *words)
        assert not kept & read_head(bundle).manifest.content


def test_what_a_test_makes_of_own_data_is_in_no_cache_and_no_bundle(
    hospital: Hospital, tmp_path: Path
) -> None:
    member = hospital.member
    paths = ("--data_path", str(hospital.data / "measurements"))
    paths += ("--labels_path", str(hospital.data / "diagnoses"))
    words = ("test", "run", "-b", "1", "-m", "2", *paths)
    report = member.json(*words)
    made = {digest for step in report["steps"] for digest in step["outputs"].values()}
    assert made and made.isdisjoint(
        item["sha256"] for item in member.json("storage", "ls")["items"]
    )
    member.does("bundle", "export", str(tmp_path / "all.bundle"))
    assert made.isdisjoint(read_head(tmp_path / "all.bundle").manifest.content)
    again = member.json(*words)
    assert {step["source"] for step in again["steps"]} == {"cache"}


def test_the_raw_data_of_a_dataset_are_not_missed_in_a_bundle(
    hospital: Hospital, tmp_path: Path
) -> None:
    approved(hospital)
    made = hospital.member.run(
        *("bundle", "export", str(tmp_path / "one.bundle"), "--benchmark", "1")
    )
    assert made.returncode == 0, made.stderr
    # Nobody could carry them, whose they are.
    assert "input_data_hash" not in made.stderr
