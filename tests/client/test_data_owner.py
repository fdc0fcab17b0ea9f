"""The data owner's road, with the registry there, and with it away from first to last."""

import json
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.consortium import Consortium, Member
from tests.support.hospital import (
    REQUEST,
    Hospital,
    approved,
    as_committee,
    direct,
    with_another_model,
)
from tests.support.terminal import read_terminal


def test_a_hospital_takes_part_and_releases_what_models_gave(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    member = hospital.member
    uid = hospital.operational()
    (listed,) = member.json("dataset", "ls", "--mine")
    assert (listed["id"], listed["state"], listed["name"]) == (int(uid), "OPERATION", "north")
    assert listed["report"]["execution_status"] == "finished"
    member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    committee = as_committee(own_consortium)
    (request,) = committee.json("association", "ls", "-bd")
    assert request["metadata"]["test_result"]["auroc"] > 0.9
    committee.does(*REQUEST, uid, "-y")

    outcomes = member.json("benchmark", "run", "-b", "1", "-d", uid)
    assert [(one["model"], one["error"]) for one in outcomes] == [(2, None)]
    released = member.json("result", "submit", "-r", f"b1m2d{uid}", "-y")
    (there,) = direct(own_consortium, "committee").pages("/benchmarks/1/results/")
    assert there["id"] == released["id"] and there["results"] == outcomes[0]["results"]
    assert there["metadata"]["partial"] is False
    committee.does("sync")
    (seen,) = committee.json("result", "ls", "-b", "1")
    assert (seen["model"], seen["dataset"], seen["id"]) == (2, int(uid), there["id"])


def test_the_whole_road_with_the_registry_away_then_two_syncs(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    member = hospital.member
    own_consortium.stop()
    assert hospital.operational() == "q1"
    member.does("dataset", "associate", "-d", "q1", "-b", "1", "-y")
    member.does("benchmark", "run", "-b", "1", "-d", "q1")
    member.does("result", "submit", "--all", "-b", "1", "-d", "q1", "-y")
    waits = {one["uid"]: one["reason"] for one in member.json("queue", "ls")}
    assert waits["q4"] == "until dataset q1 is OPERATION"
    assert waits["q5"] == "until dataset q1 in benchmark 1 is APPROVED"

    own_consortium.start()
    sent = member.json("sync")["sent"]
    assert [one["uid"] for one in sent] == ["q1", "q2", "q3", "q4"]
    uid = str(sent[0]["as"])
    assert member.json("sync")["sent"] == []
    as_committee(own_consortium).does(*REQUEST, uid, "-y")
    assert [one["uid"] for one in member.json("sync")["sent"]] == ["q5"]
    assert member.json("sync")["sent"] == []

    admin = direct(own_consortium, "administrator", admin=True)
    (dataset,) = admin.pages("/datasets/")
    assert (dataset["state"], dataset["name"]) == ("OPERATION", "north")
    assert [one["approval_status"] for one in admin.get(f"/datasets/{uid}/benchmarks/1/")] == [
        "APPROVED"
    ]
    (result,) = admin.pages("/results/")
    (local,) = member.json("result", "ls")
    assert (result["id"], result["dataset"]) == (local["registered"], int(uid))
    assert local["uid"] == f"b1m2d{uid}" and result["results"] == local["results"]


def test_what_others_learn_of_a_dataset_is_its_public_form(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid = hospital.submit()
    committee = as_committee(own_consortium)
    (seen,) = committee.json("dataset", "ls")
    assert seen["name"] == "north" and not {"owner", "report"} & seen.keys()
    assert str(hospital.data) not in str(seen)
    assert committee.run("dataset", "prepare", "-d", uid, "-y").returncode == 2


def test_a_model_that_fails_costs_only_itself(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid = hospital.operational()
    broken = own_consortium.host.folder / "model_logistic" / "container_config.yaml"
    committee, owner = as_committee(own_consortium), direct(own_consortium, "committee")
    text = broken.read_text().replace("main.py", "no-such-file.py")
    (own_consortium.host.folder / "broken.yaml").write_text(text)
    options = own_consortium.container_options("model_logistic")
    options[1] = f"{own_consortium.host.url}broken.yaml"
    bad = committee.json("container", "submit", "--name", "bad", *options, "--operational", "-y")
    association = {"model_mlcube": bad["id"], "benchmark": 1, "approval_status": "PENDING"}
    # Both sides are theirs, so it is approved at once.
    owner.post("/mlcubes/benchmarks/", {**association, "metadata": {}}, "b" * 36)
    hospital.member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    committee.does("sync")
    committee.does(*REQUEST, uid, "-y")

    done = hospital.member.run("benchmark", "run", "-b", "1", "-d", uid)
    assert done.returncode == 1
    assert "Results: 1 of 2 (1 from the cache). Failed: 1." in done.stdout
    logs = hospital.member.home.rglob(f"logs/b1m{bad['id']}/infer.log")
    assert "no-such-file.py" in next(logs).read_text() and str(bad["id"]) in done.stderr
    one = hospital.member.run("run", "-b", "1", "-d", uid, "-m", str(bad["id"]), "-y")
    assert one.returncode == 1 and "no-such-file.py" in one.stderr
    partial = hospital.member.run(
        *("result", "create", "-b", "1", "-d", uid, "-m", str(bad["id"])), "--ignore-model-errors"
    )
    # Without any predictions the metrics have nothing to say either.
    assert partial.returncode == 1 and "evaluate" in partial.stderr


def test_several_models_at_a_time_give_what_one_after_the_other_does(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    good, bad = (
        with_another_model(own_consortium),
        with_another_model(own_consortium, "broken", "no-such-program.py"),
    )
    uid, member = approved(hospital), hospital.member
    words = ("benchmark", "run", "-b", "1", "-d", uid, "--json")
    one = member.run(*words)
    several = member.run(*words, "--no-cache", "--jobs", "3")
    assert one.returncode == several.returncode == 1
    before, after = json.loads(one.stdout), json.loads(several.stdout)
    assert [each["model"] for each in after] == [each["model"] for each in before]
    assert {each["model"] for each in after} == {2, good, bad}
    for first, second in zip(before, after, strict=True):
        assert second["results"] == first["results"]
        assert bool(second["error"]) == (second["model"] == bad)
        assert not second["from_cache"] and (Path(second["logs"]) / "infer.log").exists()
    shown = {each["model"]: each["result"] for each in after if each["result"]}
    steps = {
        model: member.json("result", "view", result)["steps"] for model, result in shown.items()
    }
    assert {step["source"] for of_one in steps.values() for step in of_one} == {"ran"}
    # What is done is known to both.
    again = member.run(*words, "--jobs", "3")
    assert [each["from_cache"] for each in json.loads(again.stdout)] == [
        each["model"] != bad for each in after
    ]


def test_a_run_of_models_is_a_table_on_a_terminal(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid = hospital.operational()
    with_another_model(own_consortium, "another")
    hospital.member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    as_committee(own_consortium).does(*REQUEST, uid, "-y")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        hospital.member.command("benchmark", "run", "-b", "1", "-d", uid, "--no-cache", "--json"),
        env={**hospital.member.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = read_terminal(ours)
    assert process.stdout is not None
    outcomes = json.loads(process.stdout.read())
    assert process.wait(timeout=60) == 0 and len(outcomes) == 2, shown
    for row in ("another .* infer: running", "model_logistic .* waits", "done: b1m2d"):
        assert re.search(row, shown), shown


def test_runs_of_the_same_three_are_kept_apart(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid = hospital.operational()
    member = hospital.member
    create = ("result", "create", "-b", "1", "-d", uid, "-m", "2")
    first, again = member.json(*create), member.json(*create)
    assert again[0]["from_cache"] and first[0]["result"] == again[0]["result"] == f"b1m2d{uid}"
    second = member.json(*create, "--no-cache")
    assert second[0]["result"] == f"b1m2d{uid}-2" and not second[0]["from_cache"]
    listed = [one["uid"] for one in member.json("result", "ls")]
    assert listed == [f"b1m2d{uid}-1", f"b1m2d{uid}-2"]
    assert member.json("result", "view", f"b1m2d{uid}")["uid"] == f"b1m2d{uid}-2"


def test_a_release_that_was_dropped_from_the_queue_can_be_made_again(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    member, uid = hospital.member, approved(hospital)
    submit = ("result", "submit", "-r", f"b1m2d{uid}", "-y")
    own_consortium.stop()
    entry = member.json(*submit)["id"]
    twice = member.run(*submit)
    assert twice.returncode == 2 and f"was released before, as {entry}" in twice.stderr
    member.does("queue", "drop", entry, "-y")
    member.does("result", "review", f"b1m2d{uid}", "--redact", "auroc")
    (again,) = member.json("result", "submit", "--all", "-y")
    assert again["id"] != entry
    assert member.json("result", "submit", "--all", "-y") == []
    assert "no results here to release" in member.does("result", "submit", "--all", "-y")
    own_consortium.start()
    member.does("sync")
    (there,) = direct(own_consortium, "committee").pages("/benchmarks/1/results/")
    assert there["results"]["auroc"] == "redacted"
    assert member.run(*submit).returncode == 2


def test_a_result_is_not_released_before_anybody_asked_to_take_part(hospital: Hospital) -> None:
    uid = hospital.operational()
    hospital.member.does("result", "create", "-b", "1", "-d", uid, "-m", "2")
    done = hospital.member.run("result", "submit", "-r", f"b1m2d{uid}", "-y")
    assert done.returncode == 2 and f"medperf dataset associate -d {uid} -b 1" in done.stderr


def test_requests_that_the_registry_would_refuse_run_nothing(hospital: Hospital) -> None:
    uid = hospital.submit()
    ask = ("dataset", "associate", "-d", uid, "-b", "1", "-y")
    done = hospital.member.run(*ask)
    assert done.returncode == 2 and f"set_operational -d {uid}" in done.stderr
    hospital.member.does("dataset", "prepare", "-d", uid, "-y")
    hospital.member.does("dataset", "set_operational", "-d", uid, "-y")
    hospital.member.does(*ask)
    again = hospital.member.run(*ask)
    assert again.returncode == 2 and "PENDING in benchmark 1 already" in again.stderr
    assert "infer" not in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-b", "1", "-p", "1"), "one of both"),
        ((), "one of both"),
        (("-p", "1", "-m", "."), "--submit-as-prepared"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_read(
    hospital: Hospital, words: tuple[str, ...], said: str
) -> None:
    paths = ("-d", str(hospital.data), "-l", str(hospital.data))
    done = hospital.member.run("dataset", "submit", *words, *paths, "--name", "x", "-y")
    assert done.returncode == 2 and said in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04\xff\xfe", "is no list of models: it is not text in UTF-8"),
        (b"", "names no models"),
        (b" ,\n,\n", "names no models"),
    ],
)
def test_a_file_that_lists_no_models_runs_nothing(
    newcomer: Member, tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "models"
    file.write_bytes(content)
    done = newcomer.run("benchmark", "run", "-b", "1", "-d", "3", "-f", str(file))
    assert done.returncode == 2 and f"{file} {told}" in done.stderr, done.stderr


def test_data_that_were_prepared_elsewhere_are_used_where_they_lie(
    hospital: Hospital, tmp_path: Path
) -> None:
    uid = hospital.operational()
    member = hospital.member
    folder = Path(member.json("dataset", "view", uid)["here"]["folder"])
    data = shutil.copytree(folder / "data", tmp_path / "prepared")
    labels = shutil.copytree(folder / "labels", tmp_path / "prepared_labels")
    for path in (data, labels):
        path.chmod(0o755)
    paths = ("-d", str(data), "-l", str(labels))
    words = ("dataset", "submit", "-p", "1", *paths, "--name", "again", "--submit-as-prepared")
    # These are the data of the dataset that is there, as their hash tells.
    done = member.run(*words, "-y")
    assert done.returncode == 2 and f"dataset {uid} (north)" in done.stderr
    other = sorted(data.glob("*"))[0]
    other.chmod(0o644)
    other.write_text(other.read_text().rstrip() + "1\n")
    made = str(member.json(*words, "-y")["id"])
    member.does("dataset", "prepare", "-d", made)
    member.does("dataset", "set_operational", "-d", made, "-y")
    outcomes = member.json("result", "create", "-b", "1", "-d", made, "-m", "2")
    assert outcomes[0]["results"]["auroc"] > 0.9
    other.write_text(other.read_text().rstrip() + "1\n")
    changed = member.run("result", "create", "-b", "1", "-d", made, "-m", "2")
    assert changed.returncode == 1 and "not those that were registered" in changed.stderr


def test_a_second_machine_binds_to_the_registered_dataset(
    own_consortium: Consortium, hospital: Hospital
) -> None:
    uid = hospital.operational()
    other = hospital.elsewhere("second")
    other.member.does("sync")
    words = ("-b", "1", "-d", str(other.data / "measurements"), "-l", str(other.data / "diagnoses"))
    done = other.member.run("dataset", "submit", *words, "--name", "other", "-y")
    assert done.returncode == 2 and "--bind" in done.stderr
    assert other.submit("--bind") == uid
    other.member.does("dataset", "prepare", "-d", uid)
    (outcome,) = other.member.json("result", "create", "-b", "1", "-d", uid, "-m", "2")
    assert outcome["error"] is None
    # Who has other data is told so.
    third = own_consortium.member("hospital", home="third")
    third.does("sync")
    refused = third.run("dataset", "prepare", "-d", uid)
    assert refused.returncode == 2 and "are not on this machine" in refused.stderr


def test_the_folder_of_datasets_can_be_anywhere_and_rm_leaves_the_raw_data(
    hospital: Hospital, tmp_path: Path
) -> None:
    member, large = hospital.member, tmp_path / "large disk"
    member.does("profile", "set", "datasets_folder", str(large))
    uid = hospital.operational()
    member.does("result", "create", "-b", "1", "-d", uid, "-m", "2")
    folder = Path(member.json("dataset", "view", uid)["here"]["folder"])
    assert folder.is_relative_to(large) and (folder / "data").is_symlink()
    kept = set(large.rglob("content/trees/*/*"))
    member.does("storage", "gc", "--unused-days", "0", "--max-size", "0")
    assert set(large.rglob("content/trees/*/*")) == kept
    assert member.run("dataset", "rm", "-d", uid, answers="n\n").returncode == 1
    member.does("dataset", "rm", "-d", uid, "-y")
    assert not folder.exists() and (hospital.data / "measurements").exists()
    # What a result was made of may still be looked at.
    assert len(list(large.rglob("content/trees/*/*"))) == 1
    assert member.json("dataset", "ls", "--mine")[0]["id"] == int(uid)


def test_predictions_are_laid_out_for_people(hospital: Hospital, tmp_path: Path) -> None:
    uid = hospital.operational()
    words = ("result", "create", "-b", "1", "-d", uid, "-m", "2")
    hospital.member.does(*words, "--keep-predictions", str(tmp_path / "predictions"))
    files = list((tmp_path / "predictions" / f"b1m2d{uid}").rglob("*.*"))
    assert files and all(path.stat().st_mode & 0o200 for path in files)


def test_datasets_and_results_are_shown_in_files_too(hospital: Hospital, tmp_path: Path) -> None:
    uid = hospital.operational()
    out = tmp_path / "dataset.yaml"
    hospital.member.does("dataset", "view", uid, "-o", str(out))
    assert "name: north" in out.read_text()
    again = hospital.member.run("dataset", "view", uid, "-o", str(out))
    assert again.returncode == 2 and "is there already" in again.stderr
    every: Any = hospital.member.json("dataset", "view", "--mine")
    assert [one["id"] for one in every] == [int(uid)]
