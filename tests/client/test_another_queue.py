"""A queue that nobody foresaw: one module, and a line in the list of kinds."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.support import pool
from tests.support.cluster import Pooled
from tests.support.consortium import Consortium
from tests.support.hospital import Hospital, approved, with_another_model
from tests.support.slurm import eventually


@pytest.fixture
def site(hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pooled:
    """A hospital at work with it, where the benchmark has one model."""
    monkeypatch.setattr(hospital.member, "command", pool.command)
    found = Pooled(hospital, tmp_path / "shared", approved(hospital), None)
    found.setting()
    return found


def test_models_give_there_what_they_give_on_this_machine(
    own_consortium: Consortium, site: Pooled
) -> None:
    with_another_model(own_consortium)
    broken = with_another_model(own_consortium, "broken", "no-such-program.py")
    site.hospital.member.does("sync")
    there, here = site.run("--executor", pool.POOL), site.run("--no-cache", "--executor", "local")
    assert site.elements() == [] and list((site.shared / "runs").iterdir()) == []
    assert [one["results"] for one in there] == [one["results"] for one in here]
    assert [one["model"] for one in there if one["error"]] == [broken] and len(there) == 3
    for first, second in zip(there, here, strict=True):
        if first["result"]:
            assert site.steps(first) == site.steps(second)


def test_it_has_all_that_a_queue_has(own_consortium: Consortium, site: Pooled) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    with site.running("--jobs", "4") as client:
        gate.is_reached()
        # Whoever is killed finds its job; and a job that is killed is sent again.
        client.kill()
    with site.running() as client:
        eventually(lambda: len(site.elements()) == 1, "the other model is collected")
        (row,) = member.json("jobs", "ls")
        assert (row["state"], row["node"], row["tries"]) == ("runs", "here", 1)
        (marked,) = pool.running(site.shared)
        marked[0].kill()
        gate.is_reached(2)
        gate.open()
        said, told = client.communicate(timeout=120)
    assert {one["error"] for one in json.loads(said)} == {None}, told
    assert "is not known to the queue any more, and is sent again" in told
    assert gate.times == 2 and site.elements() == []
    assert member.json("jobs", "ls") == [] and list(pool.running(site.shared)) == []
    wrong = {"kind": pool.POOL, "shared_folder": "/", "directives": {"nice": 1}}
    done = member.run("profile", "set", "executor", json.dumps(wrong))
    assert done.returncode == 2
    assert "directives.nice expects an option that is not the client's own" in done.stderr


def test_what_no_node_could_begin_is_sent_more_often_than_what_was_cut_off(
    own_consortium: Consortium, site: Pooled
) -> None:
    with_another_model(own_consortium)
    member = site.hospital.member
    member.does("sync")
    member.environment["POOL_HELD"] = "4"
    done = member.run(*site.words)
    assert {one["error"] for one in json.loads(done.stdout)} == {None}, done.stderr
    assert done.stderr.count("is held, for it could not be started, and is sent again") == 4
    assert site.elements() == []


def test_a_note_is_found_whatever_the_name_of_its_file(
    own_consortium: Consortium, site: Pooled
) -> None:
    model, member = with_another_model(own_consortium), site.hospital.member
    member.does("sync")
    member.does(*site.words, "--no-wait")
    eventually(lambda: not list(pool.running(site.shared)), "the job ended")
    (note,) = member.home.rglob("awaited/*.json")
    # As its dataset was called by the queue, before the registry gave it a UID.
    note.rename(note.with_name(note.name.replace(f"d{site.uid}m", "dq5m")))
    assert [one["model"] for one in member.json("jobs", "wait")] == [model]
    assert list(member.home.rglob("awaited/*.json")) == []


def test_no_other_job_is_cancelled_than_the_one_that_is_named(
    own_consortium: Consortium, site: Pooled
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    member.does(*site.words, "--no-wait")
    member.does(*site.words, "--no-wait", "--ignore-model-errors")
    gate.is_reached(2)
    first, second = member.json("jobs", "ls")
    assert "Ended 1 jobs" in member.does("jobs", "cancel", first["element"][:12], "-y")
    assert [one["element"] for one in member.json("jobs", "ls")] == [second["element"]]
    gate.open()
    assert [one["model"] for one in member.json("jobs", "wait")] == [gate.model]


def test_what_is_run_anew_is_left_to_the_queue_as_all_else(
    own_consortium: Consortium, site: Pooled
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    gate.open()
    first = {one["model"]: one["result"] for one in site.run()}
    gate.path.unlink()
    with site.running("--no-cache") as client:
        gate.is_reached(2)
        client.send_signal(signal.SIGINT)
    # Each of these finds the result of before, and leaves the job alone.
    site.run("--no-cache", "--no-wait")
    assert all(one["model"] != gate.model for one in member.json("jobs", "collect"))
    assert {one["model"]: one["result"] for one in site.run()}[gate.model] == first[gate.model]
    assert len(list(pool.running(site.shared))) == len(member.json("jobs", "ls")) == 1
    gate.open()
    (outcome,) = member.json("jobs", "wait")
    assert (outcome["model"], outcome["from_cache"]) == (gate.model, False)
    assert outcome["result"] != first[gate.model] and gate.times == 2
    assert site.elements() == member.json("jobs", "ls") == []


def test_what_was_left_in_another_folder_is_told_and_kept(
    own_consortium: Consortium, site: Pooled, tmp_path: Path
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    site.run("--no-wait")
    gate.is_reached()
    first, site.shared = site.shared, tmp_path / "other"
    (site.shared / "elements").mkdir(parents=True, mode=0o700)
    site.shared.chmod(0o700)
    site.setting()
    for command in ("collect", "wait"):
        done = member.run("jobs", command, "--json")
        assert done.returncode == 1 and json.loads(done.stdout) == []
        assert f"it is left to the queue in {first}, which" in done.stderr
    gate.open()
    done = member.run(*site.words, "--executor", "local")
    assert f"container {gate.model} is left to the queue in {first}, too" in done.stderr
    eventually(lambda: not list(pool.running(first)), "the job ended, too")
    site.shared = first
    site.setting()
    (outcome,) = member.json("jobs", "wait")
    assert outcome["model"] == gate.model and outcome["results"] and gate.times == 2
    assert site.elements() == member.json("jobs", "ls") == []


def test_what_somebody_deleted_is_told_and_its_job_ended(
    own_consortium: Consortium, site: Pooled
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    site.run("--no-wait")
    gate.is_reached()
    (element,) = site.elements()
    shutil.rmtree(element)
    done = member.run("jobs", "collect", "--json")
    assert json.loads(done.stdout) == []
    assert f"had of container {gate.model} is gone from {site.shared}" in done.stderr
    eventually(lambda: not list(pool.running(site.shared)), "its job ended")
    assert "gone" not in member.run("jobs", "collect").stderr
    gate.open()
    assert {one["error"] for one in site.run()} == {None} and gate.times == 2


def test_folders_that_cannot_be_used_are_named_with_the_setting(
    own_consortium: Consortium, site: Pooled, tmp_path: Path
) -> None:
    gate = site.gated(own_consortium)
    gate.open()
    site.shared = tmp_path / "file"
    site.shared.touch()
    cases = {"file": "file is no folder", "missing/shared": "missing", "/proc/none": "cannot make"}
    for name, said in cases.items():
        site.shared = tmp_path / name
        site.setting()
        (failed,) = [one for one in site.run() if one["error"]]
        assert "executor.shared_folder of the profile" in failed["error"]
        assert said in failed["error"]
    assert gate.times == 0
