"""What a site's policy does not let run on its data is neither fetched nor run, and it says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medperf_cache.digests import file_digest
from tests.support.hospital import Hospital, approved, with_another_model
from tests.support.watching import Watching

NOBODY = {"owner": 999}
PAIR = ("-b", "1", "-d", "1")


def lay_down(hospital: Hospital, **lists: Any) -> str:
    """Have a policy hold at a hospital; where it is."""
    file = hospital.member.home / "policy.yaml"
    # JSON is YAML; a line for each list.
    lines = [f"  {name}: {json.dumps(entries)}" for name, entries in lists.items()]
    file.write_text("\n".join(["run:", *lines, ""]))
    return str(file)


def test_a_benchmark_of_others_is_refused_before_anything_is_sent_fetched_or_run(
    hospital: Hospital,
) -> None:
    uid = approved(hospital)
    file = lay_down(hospital, benchmarks=[NOBODY])
    asked = len(hospital.consortium.host.requests)
    for words in (
        ("benchmark", "run", *PAIR),
        ("run", *PAIR, "-m", "2", "-y"),
        ("result", "create", *PAIR, "-m", "2"),
        ("benchmark", "follow", *PAIR),
        ("benchmark", "fetch", "1", "-d", "1"),
        ("dataset", "submit", "-b", "1", "-d", ".", "-l", ".", "--name", "south", "-y"),
    ):
        refused = hospital.member.run(*words, cwd=hospital.data)
        assert refused.returncode == 1, words
        assert "benchmark 1 (breast-cancer)" in refused.stderr
        assert f"{file}, line 2: no entry of run.benchmarks names it" in refused.stderr
        assert "`- uid: 1`" in refused.stderr
    assert len(hospital.consortium.host.requests) == asked
    assert len(hospital.member.json("result", "ls")) == 1
    lay_down(hospital, benchmarks=[NOBODY, {"uid": 1}])
    hospital.member.does("benchmark", "run", "-b", "1", "-d", uid)


def test_a_model_that_no_entry_names_costs_itself_alone_and_nothing_of_it_is_fetched(
    hospital: Hospital,
) -> None:
    approved(hospital)
    strange = with_another_model(hospital.consortium, "strange", "./main.py")
    known = with_another_model(hospital.consortium, "known")
    hospital.member.does("sync")
    pins = hospital.member.json("container", "view", str(known))
    metrics = hospital.member.json("container", "view", "3")
    entry = {name: pins[name] for name in ("mlcube_hash", "parameters_hash")}
    lay_down(hospital, containers=[entry, {"mlcube_hash": metrics["mlcube_hash"]}])
    asked = len(hospital.consortium.host.requests)
    fetched = hospital.member.run("benchmark", "fetch", "1", "-d", "1")
    assert fetched.returncode == 0 and f"not fetched: container {strange} (st" in fetched.stderr
    done = hospital.member.run("benchmark", "run", *PAIR, "--jobs", "2")
    assert done.returncode == 1
    assert f"container {strange} (strange) failed: container {strange} (strange)" in done.stderr
    assert "line 2: no entry of run.containers names it" in done.stderr
    now = hospital.consortium.host.requests[asked:]
    assert now and not any("strange" in path for path in now)
    # That of the reference model is there already: nothing has to run for it.
    assert {one["model"] for one in hospital.member.json("result", "ls")} == {2, known}
    refused = hospital.member.run("run", *PAIR, "-m", str(strange), "-y")
    assert refused.returncode == 1 and "may not run on data of this site" in refused.stderr


def test_metrics_that_no_entry_names_let_no_model_run(hospital: Hospital) -> None:
    approved(hospital)
    lay_down(hospital, containers=[{"uid": 2}])
    refused = hospital.member.run("benchmark", "run", *PAIR, "--no-cache")
    assert refused.returncode == 1 and "container 3 (metrics)" in refused.stderr
    assert len(hospital.member.json("result", "ls")) == 1


def test_only_preparators_that_are_named_prepare(hospital: Hospital) -> None:
    uid = hospital.submit()
    lay_down(hospital, preparators=[NOBODY])
    refused = hospital.member.run("dataset", "prepare", "-d", uid, "-y")
    assert refused.returncode == 1
    assert "container 1 (data_preparator)" in refused.stderr
    assert "may not prepare data of this site" in refused.stderr
    assert hospital.member.json("dataset", "view", uid)["here"]["prepared"] is False
    lay_down(hospital, preparators=[{"uid": 1}])
    hospital.member.does("dataset", "prepare", "-d", uid, "-y")


def test_a_policy_that_is_wrong_lets_nothing_run(hospital: Hospital) -> None:
    uid = hospital.submit()
    (hospital.member.home / "policy.yaml").write_text("run:\n  preparator: any\n")
    refused = hospital.member.run("dataset", "prepare", "-d", uid, "-y")
    assert refused.returncode == 2 and "policy.yaml, line 2: there is no setting" in refused.stderr


def test_demo_data_are_nobodys_and_ones_own_are_guarded_in_a_test_too(
    hospital: Hospital,
    tmp_path: Path,
) -> None:
    lay_down(hospital, benchmarks=[NOBODY], containers=[NOBODY], preparators=[NOBODY])
    hospital.member.does("test", "run", "-b", "1", "-m", "2")
    own = ("--data_path", "measurements", "--labels_path", "diagnoses")
    for lists, said in (
        ({"benchmarks": [NOBODY]}, "benchmark 1 "),
        ({"preparators": [NOBODY]}, "container 1 "),
        ({"containers": [{"uid": 3}]}, "container 2 "),
    ):
        lay_down(hospital, **lists)
        refused = hospital.member.run("test", "run", "-b", "1", *own, cwd=hospital.data)
        assert refused.returncode == 1 and said in refused.stderr, lists
    # A container on this disk is known by its files.
    model = shutil.copytree(hospital.consortium.candidate, tmp_path / "model")
    config = model / "container_config.yaml"
    pins = {"mlcube_hash": file_digest(config)}
    words = ("test", "run", "-b", "1", "-m", str(config), *own)
    lay_down(hospital, containers=[{"uid": 3}, pins])
    hospital.member.does(*words, cwd=hospital.data)
    config.write_text(config.read_text() + "# another one\n")
    refused = hospital.member.run(*words, cwd=hospital.data)
    assert refused.returncode == 1 and f"({config})" in refused.stderr


def test_a_policy_is_tried_on_what_is_to_run(hospital: Hospital, tmp_path: Path) -> None:
    asked = ("policy", "check", "--benchmark", "1", "--model", "2", "--preparator", "1")
    assert "NO" not in hospital.member.does(*asked)
    lay_down(hospital, containers=[{"uid": 3}, {"uid": 2}], unasked=[])
    tried = hospital.member.json(*asked)
    assert [(one["what"], one["is_admitted"]) for one in tried] == [
        *(("benchmark", True), ("metrics", True), ("model", True)),
        *(("model, unasked", False), ("preparator", True)),
    ]
    # Before it holds, from another file.
    new = tmp_path / "new.yaml"
    new.write_text("run: {benchmarks: [{owner: 999}]}\n")
    refused = hospital.member.run("policy", "check", str(new), "--benchmark", "1")
    assert refused.returncode == 1 and f"{new}, line 1: no entry of run.benc" in refused.stderr
    assert "[]" in hospital.member.does("policy", "view")
    both = hospital.member.run("policy", "check", str(new), str(new), "--model", "2")
    assert both.returncode == 2


def test_what_may_not_run_unasked_is_told_once_and_runs_once_it_may(
    hospital: Hospital,
    watch: Callable[[], Watching],
) -> None:
    approved(hospital)
    uid = with_another_model(hospital.consortium)
    hospital.member.does("benchmark", "follow", *PAIR)
    lay_down(hospital, unasked=[NOBODY])
    asked = len(hospital.consortium.host.requests)
    watching = watch()
    watching.says(f"container {uid} (mlp) does not run: container {uid} (mlp)", err=True)
    hospital.member.does("sync")
    assert len(hospital.consortium.host.requests) == asked
    lay_down(hospital, unasked=[NOBODY, {"uid": uid}])
    watching.says(f"gave b1m{uid}d1")
    _, err = watching.end()
    assert "does not run" not in err
