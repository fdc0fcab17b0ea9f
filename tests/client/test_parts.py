"""Models whose cases are shared out: a job for each part, and one result as of one job."""

import json
import shutil
from pathlib import Path

import psutil
import pytest

from medperf_client.containers.spec import CASES, parse
from medperf_client.errors import InvalidContainer, UsageError
from medperf_client.execution.parts import join, shares, stand_alone
from medperf_client.settings.executors import executor_settings
from tests.support import pool
from tests.support.cases import INFER, NAMES, CasesSite, dataset_of, make_benchmark
from tests.support.consortium import Consortium, not_json
from tests.support.hospital import Hospital
from tests.support.slurm import eventually

PARTS = ["abcd", "efgh", "ijkl"]
SUM = 156


@pytest.fixture
def site(
    own_consortium: Consortium, hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CasesSite:
    """A hospital with twelve cases, whose jobs take four each."""
    make_benchmark(own_consortium)
    uid = dataset_of(hospital, tmp_path / "cases")
    monkeypatch.setattr(hospital.member, "command", pool.command)
    found = CasesSite(hospital, tmp_path / "shared", uid, None)
    found.setting(kind=pool.POOL, cases_per_job=4)
    return found


def test_each_part_is_a_job_and_the_result_is_that_of_one(site: CasesSite, tmp_path: Path) -> None:
    model = site.model("apart", tmp_path)
    done = site.hospital.member.run(*site.words)
    assert done.stdout, done.stderr
    (outcome,) = [one for one in json.loads(done.stdout) if one["model"] == model.uid]
    assert outcome["results"] == {"cases": 12, "sum": SUM}, done.stderr
    assert sorted(model.begun) == PARTS
    assert "part 2 of 3" in done.stderr
    assert site.elements() == [] and site.hospital.member.json("jobs", "ls") == []
    infer, evaluate = site.steps(outcome)
    assert infer.pop("parts") == 3 and "parts" not in evaluate
    # Nothing is left to do, on this machine either.
    again = site.outcome(model, "--executor", "local")
    assert again["from_cache"] and again["result"] == outcome["result"]
    whole = site.outcome(model, "--executor", "local", "--no-cache")
    assert sorted(model.begun) == sorted([*PARTS, "abcdefghijkl"])
    assert whole["results"] == outcome["results"] and site.steps(whole) == [infer, evaluate]


def test_the_nodes_have_but_the_cases_of_their_part(site: CasesSite, tmp_path: Path) -> None:
    model = site.model("apart", tmp_path)
    model.gate.touch()
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 3, "each part began")
    trees = (site.shared / "content" / "trees").glob("*/*")
    found = [sorted(file.stem for file in tree.glob("?.txt")) for tree in trees]
    assert sorted("".join(names) for names in found if names) == PARTS
    status = site.hospital.member.json("storage", "status")["executor"]
    # The parts, and the program that all of them run.
    assert (status["folder"], status["trees"]) == (str(site.shared), 4)
    assert status["free_bytes"] > 0
    model.gate.unlink()
    (outcome,) = site.hospital.member.json("jobs", "wait")
    assert outcome["results"]["sum"] == SUM and sorted(model.begun) == PARTS


def test_whoever_comes_later_finds_the_parts_and_does_none_twice(
    site: CasesSite, tmp_path: Path
) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.gate.touch()
    with site.running() as client:
        eventually(lambda: len(model.begun) == 3, "each part began")
        client.kill()
    rows = member.json("jobs", "ls")
    assert {one["state"] for one in rows} == {"runs"} and len(rows) == 3
    assert "1 models are left to the queue" in member.run("jobs", "collect").stderr
    model.gate.unlink()
    eventually(lambda: not list(pool.running(site.shared)), "the parts ended")
    # This takes them in, and sends what follows.
    done = member.run("jobs", "collect", "--json")
    assert json.loads(done.stdout) == [], done.stderr
    (outcome,) = member.json("jobs", "wait")
    assert (outcome["model"], outcome["results"]["sum"]) == (model.uid, SUM)
    assert sorted(model.begun) == PARTS and site.elements() == []


def test_of_a_part_that_fails_the_others_are_not_lost(site: CasesSite, tmp_path: Path) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.broken.write_text("f")
    outcome = site.outcome(model)
    assert outcome["result"] is None
    assert "infer of " in outcome["error"] and "part 2 of 3" in outcome["error"]
    assert sorted(model.begun) == PARTS and site.elements() == []
    model.broken.unlink()
    assert site.outcome(model)["results"]["sum"] == SUM
    assert sorted(model.begun) == sorted([*PARTS, "efgh"])
    assert member.json("jobs", "ls") == []


def test_a_part_that_failed_is_not_sent_again_while_others_run(
    site: CasesSite, tmp_path: Path
) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.gate.touch()
    model.broken.write_text("f")
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 3, "each part began")
    (part,) = [one for one in member.json("jobs", "ls") if "part 1 of 3" in one["model"]]
    # It is killed three times, and sent again twice.
    for times in (1, 2, 3):
        (found,) = [one for one in member.json("jobs", "ls") if one["element"] == part["element"]]
        psutil.Process(int(found["job"])).kill()
        member.json("jobs", "collect")
        eventually(lambda times=times: len(model.begun) == 3 + min(times, 2), "it began again")
    assert member.json("jobs", "collect") == []
    assert len(model.begun) == 5
    model.gate.unlink()
    ((outcome,), _) = not_json(member, "jobs", "wait")
    assert outcome["result"] is None
    assert len(model.begun) == 5 and site.elements() == []


@pytest.mark.parametrize("over", [0, 2])
def test_who_cancels_a_part_cancels_its_model(site: CasesSite, tmp_path: Path, over: int) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.gate.touch()
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 3, "each part began")
    if over:
        # All but that one end, and nobody collects them.
        model.gate.write_text("f")
        eventually(lambda: len(list(pool.running(site.shared))) == 1, "two ended")
    live = [one for one in member.json("jobs", "ls") if one["state"] == "runs"]
    said = member.does("jobs", "cancel", live[0]["element"][:12], "-y")
    assert f"Ended {3 - over} jobs" in said
    assert member.json("jobs", "wait") == [] and len(site.elements()) == over
    assert len(model.begun) == 3
    model.gate.unlink(missing_ok=True)
    assert site.outcome(model)["results"]["sum"] == SUM
    assert len(model.begun) == 3 + 3 - over and site.elements() == []


def test_parts_of_another_number_of_cases_take_the_place_of_those_of_before(
    site: CasesSite, tmp_path: Path
) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.broken.write_text("f")
    model.gate.touch()
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 3, "each part began")
    site.setting(kind=pool.POOL, cases_per_job=6)
    model.gate.unlink()
    # However it ends, it does.
    ((outcome,), _) = not_json(member, "jobs", "wait")
    assert "part 1 of 2" in outcome["error"]
    assert sorted(model.begun) == sorted([*PARTS, "abcdef", "ghijkl"])
    assert site.elements() == [] and member.json("jobs", "ls") == []
    model.broken.unlink()
    assert site.outcome(model)["results"]["sum"] == SUM
    assert model.begun[5:] == ["abcdef"]


def test_what_a_killed_client_had_taken_in_is_not_sent_again(
    site: CasesSite, tmp_path: Path
) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    model.broken.write_text("f")
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 3, "each part began")
    eventually(lambda: not list(pool.running(site.shared)), "the parts ended")
    (good,) = [one["element"] for one in member.json("jobs", "ls") if "part 1 of" in one["model"]]
    (note,) = tmp_path.rglob(f"{good}-*.json")
    element, text = site.shared / "elements" / good, note.read_text()
    shutil.copytree(element, tmp_path / "element")
    assert len(not_json(member, "jobs", "collect")[0]) == 1
    # As it is for who was killed after that was taken in, and before it was forgotten.
    shutil.copytree(tmp_path / "element", element)
    note.write_text(text)
    ((outcome,), _) = not_json(member, "jobs", "wait")
    assert "part 2 of 3" in outcome["error"]
    assert sorted(model.begun) == sorted([*PARTS, "efgh"]) and site.elements() == []


def test_a_whole_that_failed_is_not_in_the_way_of_its_parts(
    site: CasesSite, tmp_path: Path
) -> None:
    model = site.model("apart", tmp_path)
    model.broken.write_text("f")
    site.setting(kind=pool.POOL)
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 1, "it began")
    eventually(lambda: not list(pool.running(site.shared)), "it ended")
    model.broken.unlink()
    site.setting(kind=pool.POOL, cases_per_job=4)
    assert site.outcome(model)["results"]["sum"] == SUM
    assert sorted(model.begun[1:]) == PARTS and site.elements() == []


def test_what_was_sent_as_a_whole_goes_on_as_that(site: CasesSite, tmp_path: Path) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    site.setting(kind=pool.POOL)
    model.gate.touch()
    site.run("--no-wait")
    eventually(lambda: len(model.begun) == 1, "it began")
    site.setting(kind=pool.POOL, cases_per_job=4)
    assert member.json("jobs", "collect") == []
    model.gate.unlink()
    (outcome,) = member.json("jobs", "wait")
    assert outcome["results"]["sum"] == SUM and model.begun == ["abcdefghijkl"]
    assert site.elements() == []


def test_two_datasets_that_have_the_same_cases_are_each_waited_for(
    site: CasesSite, tmp_path: Path
) -> None:
    model, member = site.model("apart", tmp_path), site.hospital.member
    more = dataset_of(site.hospital, tmp_path / "more", f"{NAMES}mnop")
    model.gate.touch()
    site.run("--no-wait")
    site.uid, first = more, site.uid
    site.run("--no-wait")
    assert "2 models are left to the queue" in member.run("jobs", "collect").stderr
    model.gate.unlink()
    member.json("jobs", "wait")
    found = {one["dataset"]: one["model"] for one in member.json("result", "ls")}
    assert found == {int(first): model.uid, int(more): model.uid} and site.elements() == []


def test_nothing_that_parts_write_together_is_outside_of_it(
    site: CasesSite, tmp_path: Path
) -> None:
    model = site.model("leaving", tmp_path, LEAVES="yes")
    outcome = site.outcome(model)
    assert "wrote d for some cases, and again for others" in outcome["error"]
    # What one part wrote is where it was put.
    (left,) = site.hospital.member.home.rglob("LEFT")
    assert left.parts[-5] == "trees"


def test_parts_that_write_the_same_file_are_refused(site: CasesSite, tmp_path: Path) -> None:
    model = site.model("summing", tmp_path, SUMMARY="yes")
    outcome = site.outcome(model)
    assert outcome["result"] is None
    assert "wrote summary.txt for some cases, and again for others" in outcome["error"]
    assert site.elements() == []
    site.setting(kind=pool.POOL)
    assert site.outcome(model)["results"]["sum"] == SUM


def test_a_run_that_is_to_be_anew_or_may_be_partial_is_one_job(
    site: CasesSite, tmp_path: Path
) -> None:
    model = site.model("apart", tmp_path)
    assert site.outcome(model, "--no-cache")["results"]["sum"] == SUM
    other = site.model("other", tmp_path)
    assert site.outcome(other, "--ignore-model-errors")["results"]["sum"] == SUM
    assert model.begun == other.begun == ["abcdefghijkl"]


@pytest.mark.parametrize("most", [0, -1, 1.5, "4", True, 10**9])
def test_a_number_of_cases_that_is_none_is_refused(most: object) -> None:
    values = {"kind": "slurm", "shared_folder": "/shared", "cases_per_job": most}
    with pytest.raises(UsageError, match=r"it: executor\.cases_per_job expects a number of cases"):
        executor_settings(values, "it")


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [(0, 4, []), (1, 4, [1]), (4, 4, [4]), (10, 4, [4, 3, 3]), (5, 1, [1] * 5), (7, 9, [7])],
)
def test_parts_are_as_few_and_as_equal_as_they_can_be(
    count: int, most: int, sizes: list[int]
) -> None:
    names = [f"{i:02}" for i in range(count)]
    found = shares(names[::-1], most)
    assert [len(one) for one in found] == sizes
    assert [name for one in found for name in one] == names


def test_what_is_no_folder_of_cases_is_refused_where_it_is_written() -> None:
    def text(named: str, kind: str = "directory") -> str:
        tasks = INFER.replace("ENVIRONMENT", json.dumps({CASES: named}))
        head, tail = tasks.split("output_volumes")
        tail = tail.replace("type: directory", f"type: {kind}")
        return f"container_type: Process\nimage: a.tar\ntasks:{head}output_volumes{tail}"

    assert parse(text("data_path"), "it").task("infer").cases == "data_path"
    for wrong in ("", "labels", "output_path"):
        with pytest.raises(InvalidContainer, match=f"{CASES}: expected data_path, found"):
            parse(text(wrong), "it")
    with pytest.raises(InvalidContainer, match=r"output_path\.type: expected directory, for"):
        parse(text("data_path", "file"), "it")


@pytest.mark.parametrize(
    ("link", "target", "alone"),
    [("b", "a", False), ("a/x", "../c", False), ("a/x", "y", True), ("a/b/x", "../y", True)],
)
def test_cases_with_links_to_others_are_not_shared_out(
    tmp_path: Path, link: str, target: str, alone: bool
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / link).symlink_to(target)
    assert stand_alone(tmp_path) == alone


@pytest.mark.parametrize("pair", [("folder", "file"), ("link", "folder"), ("link", "file")])
def test_what_is_there_twice_and_no_folder_in_both_is_refused(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    for name in pair:
        place = tmp_path / name / "a"
        place.parent.mkdir()
        if name == "folder":
            place.mkdir()
            (place / "x").touch()
        elif name == "link":
            place.symlink_to(".")
        else:
            place.touch()
    for order in (pair, pair[::-1]):
        with pytest.raises(InvalidContainer, match="wrote a for some cases"):
            join([tmp_path / name for name in order], tmp_path / f"of-{order[0]}", "it")
