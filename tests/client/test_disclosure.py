"""What would tell of single persons stays at the site until somebody there decides on it."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from medperf_cache.private import Private
from medperf_client.cli.disclosing import check_of_stages, cleared
from medperf_client.datasets.progress import Progress
from medperf_client.datasets.records import Datasets
from medperf_client.disclosure.documents import digest
from medperf_client.errors import HeldBack
from medperf_client.kinds.dataset import progress_summary
from medperf_client.kinds.submission import Submission
from medperf_client.registry.client import Registry
from tests.support.consortium import Consortium, Member
from tests.support.hospital import (
    REQUEST,
    Hospital,
    approved,
    as_committee,
    direct,
    with_another_model,
)

PATIENCE_SECONDS = 120
# The example's hospital has 227 patients: with this they count as few.
STRICT = "disclosure: {min_count: 500}\n"
LEFT_OUT = ["accuracy", "malignant_share"]
LEAVE_OUT = ("--redact", "accuracy", "--redact", "malignant_share")


def write_policy(member: Member, text: str) -> Path:
    member.home.mkdir(exist_ok=True)
    file = member.home / "policy.yaml"
    file.write_text(text)
    return file


@pytest.fixture
def member(hospital: Hospital) -> Member:
    return hospital.member


def released(consortium: Consortium) -> list[dict[str, Any]]:
    return list(direct(consortium, "committee").pages("/benchmarks/1/results/"))


def test_a_clean_result_goes_out_unchanged_and_says_what_was_checked(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    (outcome,) = member.json("benchmark", "run", "-b", "1", "-d", uid)
    seen = member.json("result", "review", f"b1m2d{uid}")
    assert seen["is_clear"] and seen["findings"] == []
    member.does("result", "submit", "-r", f"b1m2d{uid}", "-y")
    (there,) = released(own_consortium)
    assert there["results"] == outcome["results"]
    assert there["metadata"]["disclosure"] == {
        "digest": digest(there["results"]),
        "rules": 1,
        "thresholds": {"min_count": 10, "dominance": 0.5, "min_words": 5},
        **dict.fromkeys(("accepted", "allowed", "redacted", "unresolved"), []),
    }
    (request,) = as_committee(own_consortium).json("association", "ls", "-bd")
    checked = request["metadata"]["disclosure"]
    assert checked["digest"] == digest(request["metadata"]["test_result"])
    dataset = member.json("dataset", "view", uid)
    assert dataset["user_metadata"]["disclosure"]["digest"] == digest(dataset["generated_metadata"])


def test_a_finding_holds_a_result_back_until_it_is_left_out_or_accepted(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    (outcome,) = member.json("benchmark", "run", "-b", "1", "-d", uid)
    write_policy(member, STRICT)
    name = f"b1m2d{uid}"
    for words in (("-r", name, "-y"), ("--all", "-b", "1", "-y"), ("-r", name)):
        held = member.run("result", "submit", *words, answers="y\n")
        assert held.returncode == 1
        assert re.search("patients: threshold, a count of [0-9]+", held.stderr)
        assert f"medperf result review {name}" in held.stderr
    assert released(own_consortium) == [] and member.json("queue", "ls") == []

    review = ("result", "review", name)
    for wrong in (("--accept", "patients"), ("--because", "x"), ("--redact", "no.such")):
        assert member.run(*review, *wrong).returncode == 2
    assert member.run(*review, "--accept", "auroc", "--because", "x").returncode == 2
    seen = member.json(*review, "--accept", "patients", "--because", "It is published")
    (accepted,) = [one for one in seen["findings"] if one["key"] == "patients"]
    assert accepted["decision"] == "accepted" and accepted["because"] == "It is published"
    assert "hospital" in accepted["by"] and accepted["at"]
    rest = [one["key"] for one in seen["findings"] if one["decision"] == "open"]
    assert rest == LEFT_OUT and not seen["is_clear"]
    assert member.run("result", "submit", "-r", name, "-y").returncode == 1
    seen = member.json(*review, *LEAVE_OUT)
    assert seen["is_clear"] and seen["redacted"] == LEFT_OUT

    member.does("result", "submit", "-r", name, "-y")
    (there,) = released(own_consortium)
    left_out = dict.fromkeys(LEFT_OUT, "redacted")
    assert there["results"] == {**outcome["results"], **left_out}
    checked = there["metadata"]["disclosure"]
    assert checked["digest"] == digest(there["results"])
    assert checked["redacted"] == LEFT_OUT
    (why,) = checked["accepted"]
    assert (why["key"], why["rule"], why["because"]) == ("patients", "threshold", "It is published")
    # Nobody learns from a result whose the data are.
    assert "hospital" not in json.dumps(checked)
    late = member.run(*review, "--undo", "patients")
    assert late.returncode == 2 and "was sent before" in late.stderr


def test_a_decision_can_be_taken_back_and_a_kept_one_is_not_lost(
    hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    write_policy(member, STRICT)
    review = ("result", "review", f"b1m2d{uid}")
    member.does(*review, "--accept", "*", "--because", "Published")
    assert member.json(*review)["is_clear"]
    assert not member.json(*review, "--undo", "patients")["is_clear"]
    kept = {one["key"]: one["decision"] for one in member.json(*review)["findings"]}
    accepted = dict.fromkeys(LEFT_OUT, "accepted")
    assert kept == {"patients": "open", **accepted}
    (file,) = member.home.glob("registries/*/clearances/*.json")
    file.write_text("{")
    held = member.run("result", "submit", "-r", f"b1m2d{uid}", "-y")
    assert held.returncode == 1 and str(file) in held.stderr


def test_statistics_and_a_test_s_result_are_held_back_as_results_are(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = hospital.submit()
    assert member.run("dataset", "review", uid).returncode == 2
    member.does("dataset", "prepare", "-d", uid, "-y")
    write_policy(member, STRICT)
    held = member.run("dataset", "set_operational", "-d", uid, "-y")
    assert held.returncode == 1 and f"medperf dataset review {uid}" in held.stderr
    seen = member.json("dataset", "review", uid)
    assert {one["key"] for one in seen["findings"]} == {"patients", "malignant", "benign"}
    member.does("dataset", "review", uid, "--redact", "malignant", "--redact", "benign")
    member.does("dataset", "review", uid, "--accept", "patients", "--because", "Published")
    member.does("dataset", "set_operational", "-d", uid, "-y")
    there = member.json("dataset", "view", uid)
    assert there["generated_metadata"]["malignant"] == "redacted"
    assert there["user_metadata"]["disclosure"]["redacted"] == ["benign", "malignant"]

    ask = ("dataset", "associate", "-d", uid, "-b", "1", "-y")
    held = member.run(*ask)
    name = re.search("medperf result (review b1m2d[0-9]+)", held.stderr)
    assert held.returncode == 1 and name is not None
    member.does("result", *name[1].split(), *LEAVE_OUT, "--redact", "patients")
    member.does(*ask)
    committee = as_committee(own_consortium)
    (request,) = committee.json("association", "ls", "-bd")
    assert request["metadata"]["test_result"]["patients"] == "redacted"
    assert request["metadata"]["disclosure"]["redacted"] == [*LEFT_OUT, "patients"]
    committee.does(*REQUEST, uid, "-y")


def test_a_policy_may_allow_keys_or_only_warn(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    write_policy(
        member,
        "disclosure:\n  min_count: 500\n  allow:\n"
        "    - {keys: patients, because: In the paper, rules: [threshold]}\n",
    )
    held = member.run("result", "submit", "-r", f"b1m2d{uid}", "-y")
    assert held.returncode == 1 and "  patients:" not in held.stderr
    write_policy(
        member,
        "disclosure:\n  findings: warn\n  min_count: 500\n  allow:\n"
        "    - {keys: patients, because: In the paper, rules: [threshold]}\n",
    )
    done = member.run("result", "submit", "-r", f"b1m2d{uid}", "-y")
    assert done.returncode == 0 and "malignant_share: differencing" in done.stderr
    (there,) = released(own_consortium)
    checked = there["metadata"]["disclosure"]
    assert checked["unresolved"] == [{"key": key, "rule": "differencing"} for key in LEFT_OUT]
    assert [one["because"] for one in checked["allowed"]] == ["In the paper"]


def test_with_the_registry_away_the_check_is_the_same(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    write_policy(member, STRICT)
    own_consortium.stop()
    name = f"b1m2d{uid}"
    assert member.run("result", "submit", "-r", name, "-y").returncode == 1
    member.does("result", "review", name, *LEAVE_OUT, "--redact", "patients")
    (queued,) = [member.json("result", "submit", "-r", name, "-y")]
    entry = member.json("queue", "view", queued["id"])
    assert entry["body"]["results"]["patients"] == "redacted"
    own_consortium.start()
    member.does("sync")
    (there,) = released(own_consortium)
    assert there["metadata"]["disclosure"]["redacted"] == [*LEFT_OUT, "patients"]


def test_an_edited_entry_is_checked_again(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    member.does("benchmark", "run", "-b", "1", "-d", uid)
    own_consortium.stop()
    entry = member.json("result", "submit", "-r", f"b1m2d{uid}", "-y")["id"]
    editor = member.home / "editor"
    member.environment["EDITOR"] = str(editor)

    def edits(before: str, after: str) -> Any:
        editor.write_text(f"#!/bin/sh\nsed -i 's/{before}/{after}/' \"$1\"\n")
        editor.chmod(0o700)
        return member.run("queue", "edit", entry)

    held = edits('"threshold": 0.5', '"deaths": 3')
    assert held.returncode == 1 and "deaths: threshold, a count of 3" in held.stderr
    assert "deaths" not in member.json("queue", "view", entry)["body"]["results"]
    done = edits('"threshold": 0.5', '"threshold": 0.6')
    assert done.returncode == 0, done.stderr
    body = member.json("queue", "view", entry)["body"]
    assert body["results"]["threshold"] == 0.6
    assert body["metadata"]["disclosure"]["digest"] == digest(body["results"])


def test_a_standing_order_releases_nothing_that_has_a_finding(
    own_consortium: Consortium, hospital: Hospital, member: Member
) -> None:
    uid = approved(hospital)
    model = with_another_model(own_consortium)
    member.does("benchmark", "fetch", "1", "--data_uid", uid)
    write_policy(member, STRICT)
    member.does("benchmark", "follow", "-b", "1", "-d", uid, "--submit")
    watching = member.start("sync", "--watch", "--interval", "1")
    timer = threading.Timer(PATIENCE_SECONDS, watching.kill)
    timer.start()
    try:
        assert watching.stderr is not None
        said = next(line for line in watching.stderr if "holds this back" in line)
        assert f"b1m{model}d{uid}" in said
    finally:
        watching.kill()
        watching.communicate()
        timer.cancel()
    assert released(own_consortium) == []
    member.does("result", "review", f"b1m{model}d{uid}", *LEAVE_OUT, "--redact", "patients")
    member.does("result", "submit", "-r", f"b1m{model}d{uid}", "-y")
    assert len(released(own_consortium)) == 1


@pytest.mark.parametrize(
    ("stage", "is_told"), [("1", True), ("2 done", True), ("sub-01 waits", False)]
)
def test_stages_that_tell_of_persons_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, is_told: bool
) -> None:
    monkeypatch.setenv("MEDPERF_HOME", str(tmp_path))
    sent: list[Submission] = []

    def submit(submission: Submission) -> Any:
        sent.append(submission)

    datasets = Datasets(tmp_path / "datasets", Private(tmp_path / "private"), lambda uid: None)
    record = datasets.add("north", preparator=1, raw={}, as_prepared=False, input_data_hash="")
    with click.Context(click.Command("prepare")):
        check = check_of_stages()
    registry = Registry("http://127.0.0.1:9", None)
    progress = Progress(datasets, replace(record, uid=3), registry, submit, True, check)
    progress.tell(progress_summary("finished", {"a": stage}), True)
    (report,) = [submission.body["report"] for submission in sent]
    told = {f"Stage {stage}": "100.0%"} if is_told else {}
    assert report == {"execution_status": "finished", "progress": told}


def test_a_finding_names_its_result_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDPERF_HOME", str(tmp_path))
    document = {"label_counts": {"rare": 4, "common": 60, "other": 70}}
    both = {f"result review b1m{model}d1": document for model in (2, 3)}
    with click.Context(click.Command("submit")):
        with pytest.raises(HeldBack, match="(?s)  b1m2d1, label_counts.*  b1m3d1, label_counts"):
            cleared(both)
        with pytest.raises(HeldBack, match="  label_counts.rare: "):
            cleared({"result review b1m2d1": document})
