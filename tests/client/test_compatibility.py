"""The compatibility test runs what has changed, and nothing else."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from tests.support.consortium import Consortium, Member
from tests.support.reports import ALL_STEPS, CONFIG, change_a_weight, ran, report_of


def test_an_unchanged_repeat_runs_no_container(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    model = model_copy()
    assert ran(report_of(newcomer, model)) == ALL_STEPS
    repeated = report_of(newcomer, model)
    assert ran(repeated) == []
    assert repeated["passed"] and repeated["results"]["auroc"] > 0.95


def test_a_second_model_uses_the_prepared_demo_data(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    report_of(newcomer, model_copy())
    other = model_copy()
    change_a_weight(other)
    assert ran(report_of(newcomer, other)) == ["infer", "evaluate"]


def test_a_copy_of_a_model_is_the_same_model(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    report_of(newcomer, model_copy())
    assert ran(report_of(newcomer, model_copy())) == []


def test_touching_a_weight_runs_infer_and_evaluate_only(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    model = model_copy()
    before = report_of(newcomer, model)
    change_a_weight(model)
    after = report_of(newcomer, model)
    assert ran(after) == ["infer", "evaluate"]
    assert after["steps"][3]["inputs"] != before["steps"][3]["inputs"]


def test_a_changed_parameter_runs_infer_again(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    model = model_copy()
    report_of(newcomer, model)
    parameters = model / "workspace" / "parameters.yaml"
    parameters.write_text(parameters.read_text() + "\n# looked at again\n")
    # A comment changes what infer reads, but not what it predicts.
    assert ran(report_of(newcomer, model)) == ["infer"]


def test_no_cache_runs_everything(newcomer: Member, model_copy: Callable[[], Path]) -> None:
    model = model_copy()
    report_of(newcomer, model)
    assert ran(report_of(newcomer, model, "--no-cache")) == ALL_STEPS


def test_what_gc_removed_runs_again(newcomer: Member, model_copy: Callable[[], Path]) -> None:
    model = model_copy()
    first = report_of(newcomer, model)
    newcomer.does("storage", "gc", "--unused-days", "0")
    assert newcomer.json("storage", "ls")["items"] == []
    again = report_of(newcomer, model)
    # A check that passed has no output to lose.
    assert ran(again) == [step for step in ALL_STEPS if step != "sanity_check"]
    assert again["results"] == first["results"]


def test_the_report_says_where_each_step_came_from(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    report = report_of(newcomer, model_copy())
    assert [step["step"] for step in report["steps"]] == ALL_STEPS
    for step in report["steps"]:
        assert re.fullmatch("[0-9a-f]{64}", step["image_id"])
        assert step["seconds"] > 0
        digests = [*step["inputs"].values(), *step["outputs"].values()]
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    # The data are prepared for whatever model comes.
    assert [step.get("model") for step in report["steps"]] == [None] * 3 + [
        report["model"]["name"]
    ] * 2
    assert f"infer of {report['model']['name']}" in newcomer.does("test", "view", "latest")
    assert newcomer.json("test", "view", report["uid"]) == report
    assert newcomer.json("test", "view", "latest") == report
    assert newcomer.json("test", "ls") == [report]
    assert report["uid"] in newcomer.does("test", "ls")


def test_a_registered_model_is_its_author_s_copy(consortium: Consortium, newcomer: Member) -> None:
    # The reference model, UID 2, and the folder it was hosted from have the same content.
    assert ran(report_of(newcomer, 2)) == ALL_STEPS
    assert ran(report_of(newcomer, consortium.host.folder / "model_logistic")) == []


def test_a_failing_container_shows_its_log(
    newcomer: Member, model_copy: Callable[[], Path]
) -> None:
    model = model_copy()
    weights = model / "workspace" / "additional_files" / "weights.json"
    weights.write_text("no weights at all")
    done = newcomer.run("test", "run", "--benchmark", "1", "--model", str(model / CONFIG))
    assert done.returncode == 1 and done.stdout == ""
    log = re.search(r"\S+/infer\.log", done.stderr)
    assert log is not None and Path(log.group()).is_file(), done.stderr
    last_line = Path(log.group()).read_text().splitlines()[-1]
    assert last_line in done.stderr
    report = newcomer.json("test", "view", "latest")
    assert not report["passed"] and "infer" in report["error"]
    assert [step["step"] for step in report["steps"]] == ALL_STEPS[:3]


def test_a_failed_step_is_tried_again(newcomer: Member, model_copy: Callable[[], Path]) -> None:
    model = model_copy()
    weights = model / "workspace" / "additional_files" / "weights.json"
    good = weights.read_text()
    weights.write_text("{}")
    failed = newcomer.run("test", "run", "--benchmark", "1", "--model", str(model / CONFIG))
    assert failed.returncode == 1
    weights.write_text(good)
    assert ran(report_of(newcomer, model)) == ["infer", "evaluate"]


def test_local_raw_data_take_the_place_of_the_demo_data(
    newcomer: Member, model_copy: Callable[[], Path], consortium: Consortium
) -> None:
    raw = Path(__file__).parents[2] / "examples" / "breast_cancer" / "data" / "demo"
    folders = [path for path in sorted(raw.iterdir()) if path.is_dir()]
    labels, data = sorted(folders, key=lambda path: "diagnos" not in path.name)
    paths = ("--data_path", str(data), "--labels_path", str(labels))
    report = report_of(newcomer, model_copy(), *paths)
    assert report["demo_dataset_hash"] is None
    assert report["results"]["patients"] == 222


def test_every_part_can_be_local_and_then_no_registry_is_asked(
    newcomer: Member, consortium: Consortium
) -> None:
    folder = consortium.host.folder
    demo = folder / "assets" / "demo_data.tar.gz"
    digest = hashlib.sha256(demo.read_bytes()).hexdigest()
    consortium.registry.log.write_text("")
    newcomer.does(
        *("test", "run", "--model", str(folder / "model_mlp" / CONFIG)),
        *("--data_preparator", str(folder / "data_preparator" / CONFIG)),
        *("--evaluator", str(folder / "metrics" / CONFIG)),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz", "--demo-hash", digest),
    )
    assert consortium.registry.log.read_text() == ""


def test_missing_parts_are_named(newcomer: Member) -> None:
    done = newcomer.run("test", "run", "--model", "nowhere.yaml")
    assert done.returncode == 2
    assert "--data_preparator, --evaluator, --demo-url" in done.stderr


def test_a_changed_demo_dataset_is_refused(
    newcomer: Member, consortium: Consortium, tmp_path: Path
) -> None:
    done = newcomer.run(
        *("test", "run", "--benchmark", "1"),
        *("--demo-url", f"{consortium.host.url}assets/demo_data.tar.gz", "--demo-hash", "0" * 64),
    )
    assert done.returncode == 1
    assert f"expected sha256 {'0' * 64}, found" in done.stderr
    assert newcomer.run("storage", "verify").returncode == 0
