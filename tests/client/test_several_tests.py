"""One command tests several models: each has its report, and one that fails costs only itself."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cluster import GATED
from tests.support.consortium import EXAMPLE, Member
from tests.support.reports import ALL_STEPS, CONFIG, change_a_weight, ran, report_of
from tests.support.slurm import eventually
from tests.support.terminal import read_terminal

PREPARATION = ALL_STEPS[:3]


def logs_of(member: Member, task: str) -> int:
    """How many times a task ran in tests."""
    return len(list(member.home.glob(f"registries/*/reports/*/{task}.log")))


def broken(model: Path) -> Path:
    """A model whose weights are none."""
    (model / "workspace" / "additional_files" / "weights.json").write_text("no weights at all")
    return model


def named(*models: Path | int) -> list[str]:
    """The options that name models."""
    paths = [str(one if isinstance(one, int) else one / CONFIG) for one in models]
    return [word for path in paths for word in ("-m", path)]


@pytest.mark.parametrize("jobs", [(), ("--jobs", "2")], ids=["in turn", "two at a time"])
def test_each_of_several_models_has_its_report_and_the_data_are_prepared_once(
    newcomer: Member, model_copy: Callable[[], Path], jobs: tuple[str, ...]
) -> None:
    changed, bad = model_copy(), broken(model_copy())
    change_a_weight(changed)
    words = ("test", "run", "-b", "1", *named(2, bad, changed), *jobs)
    done = newcomer.run(*words, "--json")
    assert done.returncode == 1, done.stderr
    reports = json.loads(done.stdout)
    assert [one["passed"] for one in reports] == [True, False, True]
    assert [one["model"]["uid"] for one in reports] == [2, None, None]
    assert [one["model"]["name"] for one in reports][1:] == named(bad, changed)[1::2]
    assert [newcomer.json("test", "view", one["uid"]) for one in reports] == reports
    assert [ran(one) for one in reports] == [["infer", "evaluate"], [], ["infer", "evaluate"]]
    assert [step["step"] for step in reports[1]["steps"]] == PREPARATION
    (log,) = re.findall(r"\S+/infer\.log", reports[1]["error"])
    assert Path(log).is_file() and log in done.stderr
    assert [logs_of(newcomer, task) for task in ALL_STEPS] == [1, 1, 1, 3, 2]
    # The same one by one, from what is remembered.
    for model, report in ((2, reports[0]), (changed, reports[2])):
        alone = report_of(newcomer, model)
        assert ran(alone) == [] and alone["results"] == report["results"]
        assert alone["generated_uid"] == report["generated_uid"]
    again = newcomer.run(*words)
    assert again.returncode == 1 and "Passed: 2 of 3 (2 from the cache)." in again.stdout
    assert len(re.findall(r"\s\d{8}-\d{6}-\w{8}\s+yes\s+yes", again.stdout)) == 2
    assert re.search(rf"{bad / CONFIG}\s+\S+\s+no\s+no\s+task infer", again.stdout)


def test_with_no_cache_the_data_are_still_prepared_once(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    words = ("test", "run", "-b", "1", *named(2, model_copy()), "--jobs", "2")
    first = newcomer.json(*words)
    second = newcomer.json(*words, "--no-cache")
    assert [ran(one) for one in second] == [["infer", "evaluate"]] * 2
    assert [one["results"] for one in second] == [one["results"] for one in first]
    assert [logs_of(newcomer, task) for task in ALL_STEPS] == [2, 2, 2, 4, 4]


def test_a_model_that_is_none_is_told_before_any_is_tested(newcomer: Member) -> None:
    for wrong in ("no-such-folder/container_config.yaml", "999"):
        done = newcomer.run("test", "run", "-b", "1", "-m", "2", "-m", wrong)
        assert done.returncode == 2 and done.stdout == "" and wrong in done.stderr
    assert newcomer.json("test", "ls") == [] and logs_of(newcomer, "prepare") == 0


def test_data_that_cannot_be_prepared_are_told_once(
    newcomer: Member, model_copy: Callable[[], Path], tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    data = ("--data_path", str(tmp_path / "nothing"), "--labels_path", str(tmp_path / "nothing"))
    done = newcomer.run("test", "run", "-b", "1", *named(2, model_copy()), *data, "--json")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("Error: task prepare failed") == 1, done.stderr
    assert newcomer.json("test", "ls") == []


def test_tests_of_several_models_on_own_data_are_a_table_on_a_terminal(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    mine, raw = model_copy(), EXAMPLE / "data" / "demo"
    data = ("--data_path", str(raw / "measurements"), "--labels_path", str(raw / "diagnoses"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        newcomer.command("test", "run", "-b", "1", *named(2, mine), *data, "--jobs", "2", "--json"),
        env={**newcomer.environment, "TERM": "xterm", "COLUMNS": "250"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = read_terminal(ours)
    assert process.stdout is not None
    reports = json.loads(process.stdout.read())
    assert process.wait(timeout=60) == 0 and [one["passed"] for one in reports] == [True] * 2
    assert {one["demo_dataset_hash"] for one in reports} == {None}
    for row in ("model_logistic.* prepare: running", f"{mine}.* infer: running", "done: 2"):
        assert re.search(row, shown), shown


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_who_interrupts_tests_keeps_the_reports_of_those_that_ran(
    newcomer: Member, model_copy: Callable[[], Path], tmp_path: Path, jobs: str
) -> None:
    waiting = model_copy()
    gate, began = tmp_path / "gate", tmp_path / "began"
    config = (waiting / CONFIG).read_text()
    gated = GATED.format(began=str(began), gate=str(gate))
    (waiting / CONFIG).write_text(config.replace("main.py", gated))
    words = ("test", "run", "-b", "1", *named(2, waiting, model_copy()), "--jobs", jobs)
    with newcomer.start(*words) as process:
        try:
            eventually(began.exists, "the second model began")
            passed = 1 if jobs == "1" else 2
            eventually(lambda: len(newcomer.json("test", "ls")) == passed, "others have ended")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 130
    assert sorted(one["passed"] for one in newcomer.json("test", "ls")) == [False, *[True] * passed]
    gate.touch()
    reports = newcomer.json(*words)
    assert [one["passed"] for one in reports] == [True] * 3
    # What the last one predicted is what the second predicts.
    assert ran(reports[0]) == [] and ran(reports[1])[0] == "infer"
