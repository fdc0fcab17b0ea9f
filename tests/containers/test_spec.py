"""A container_config.yaml parses into plain data, or is refused with all that is wrong in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medperf_client.containers.spec import (
    ALL_GPUS,
    DOCKER_IMAGE,
    ContainerSpec,
    Task,
    Volume,
    load,
    parse,
)
from medperf_client.errors import InvalidContainer
from tests.support.forks import IMPORT_ROOTS, ROOT

SOURCE = "model/container_config.yaml"


def config(task: object = None, **top: object) -> str:
    """A valid configuration of one task `infer`, but for what is given."""
    whole = {
        "container_type": DOCKER_IMAGE,
        "image": "site/model:1",
        "tasks": {"infer": task or {}},
    }
    return yaml.safe_dump({**whole, **top})


def volume(mount_path: object = "/data", kind: object = "directory") -> dict[str, object]:
    return {"mount_path": mount_path, "type": kind}


def infer(text: str) -> Task:
    return parse(text, SOURCE).task("infer")


def refusal(text: str) -> str:
    with pytest.raises(InvalidContainer) as caught:
        parse(text, SOURCE)
    assert SOURCE in str(caught.value)
    return str(caught.value)


# Each the shape of one or more of MedPerf's public examples.
MODEL = """
container_type: DockerImage
image: institute/model:0.0.1
tasks:
  infer:
    input_volumes:
      data_path:
        mount_path: /mlcommons/volumes/data
        type: directory
      parameters_file:
        mount_path: /mlcommons/volumes/parameters/parameters_file.yaml
        type: file
    output_volumes:
      output_path:
        mount_path: /mlcommons/volumes/predictions
        type: directory
"""

PREPARATOR = """
container_type: DockerImage
image: institute/preparator:1.0.11
tasks:
  prepare:
    input_volumes:
      data_path: {mount_path: /mlcube_io0, type: directory}
    output_volumes:
      output_path: {mount_path: /mlcube_io4, type: directory}
      report_file: {mount_path: /mlcube_io6/report.yaml, type: file}
    run_args:
      command:
      - prepare
      - --data_path=/mlcube_io0/

  sanity_check:
    run_args:
      command: python3 /project/main.py --start=sanity_check
    input_volumes:
      data_path: {mount_path: /mlcube_io0, type: directory}
    output_volumes: {}
  statistics:
    run_args:
      command: /project/statistics.sh 'all of it'
    input_volumes:
      data_path: {mount_path: /mlcube_io0, type: directory}
"""


def test_a_model_of_the_tutorial_parses() -> None:
    assert parse(MODEL, SOURCE) == ContainerSpec(
        kind="DockerImage",
        image="institute/model:0.0.1",
        tasks={
            "infer": Task(
                name="infer",
                inputs=(
                    Volume("data_path", "/mlcommons/volumes/data", "directory"),
                    Volume(
                        "parameters_file",
                        "/mlcommons/volumes/parameters/parameters_file.yaml",
                        "file",
                    ),
                ),
                outputs=(Volume("output_path", "/mlcommons/volumes/predictions", "directory"),),
            )
        },
        source=SOURCE,
    )


def test_commands_are_text_or_lists_and_volumes_may_be_missing() -> None:
    spec = parse(PREPARATOR.encode(), SOURCE)
    assert spec.task("prepare").command == ("prepare", "--data_path=/mlcube_io0/")
    assert spec.task("sanity_check").command == (
        "python3",
        "/project/main.py",
        "--start=sanity_check",
    )
    assert spec.task("sanity_check").outputs == ()
    assert spec.task("statistics").command == ("/project/statistics.sh", "all of it")


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/container_config.yaml")), ids=str)
def test_the_examples_of_this_tree_parse(path: Path) -> None:
    assert load(path).tasks


@pytest.mark.parametrize(
    "kind",
    ["SingularityFile", "EncryptedDockerArchive", "EncryptedSingularityFile", "DockerArchive"],
)
def test_every_kind_of_medperf_parses(kind: str) -> None:
    spec = parse(MODEL.replace("DockerImage", kind), SOURCE)
    assert (spec.kind, spec.task("infer").outputs[0].name) == (kind, "output_path")


def test_an_mlcube_is_known_by_name() -> None:
    text = """
name: An MLCube
platform: {accelerator_count: 0}
docker: {image: institute/fl:1.0.0, build_context: ../project}
tasks:
  infer:
    parameters:
      inputs: {data_path: data/}
      outputs: {report_path: {type: file, default: report/report.yaml}}
"""
    spec = parse(text, SOURCE)
    assert (spec.kind, spec.image, list(spec.tasks)) == ("MLCube", "institute/fl:1.0.0", ["infer"])


def test_a_workflow_of_steps_is_known_by_name() -> None:
    text = """
base_step: &BASE
  - type: container
    image: institute/preparator:0.0.1
steps:
  - id: setup
    <<: *BASE
    command: initial_setup
    next: null
conditions:
  - {id: done, type: function}
"""
    spec = parse(text, SOURCE)
    assert (spec.kind, list(spec.tasks)) == ("Workflow", ["setup"])


def test_a_missing_task_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidContainer, match=f"{SOURCE}.*'infer'.*prepare, sanity_check, stati"):
        parse(PREPARATOR, SOURCE).task("infer")


def test_run_args_become_plain_values() -> None:
    task = infer(
        config(
            {
                "run_args": {
                    "command": "--epochs 3",
                    "entrypoint": "python3 'my model.py'",
                    "environment": {"EPOCHS": 3, "RATE": 0.5, "DEBUG": True},
                    "shm_size": "2g",
                    "gpus": "device=0,GPU-1f2e",
                }
            }
        )
    )
    assert task.command == ("--epochs", "3")
    assert task.entrypoint == ("python3", "my model.py")
    assert task.environment == {"EPOCHS": "3", "RATE": "0.5", "DEBUG": "True"}
    assert task.shm_size == 2 << 30
    assert task.gpus == ("0", "GPU-1f2e")


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [("64m", 64 << 20), ("64MB", 64 << 20), ("1.5GiB", 3 << 29), (4096, 4096), ("1k", 1024)],
)
def test_a_size_is_read_as_docker_reads_it(written: object, bytes_: int) -> None:
    assert infer(config({"run_args": {"shm_size": written}})).shm_size == bytes_


@pytest.mark.parametrize(
    ("written", "read"), [("all", ALL_GPUS), (2, 2), ("2", 2), (0, None), ("", None), (None, None)]
)
def test_gpus_are_all_or_a_number(written: object, read: int | None) -> None:
    assert infer(config({"run_args": {"gpus": written}})).gpus == read


def test_no_entrypoint_is_another_thing_than_an_empty_one() -> None:
    assert infer(config()).entrypoint is None
    assert infer(config({"run_args": {"entrypoint": ""}})).entrypoint == ()


@pytest.mark.parametrize(
    ("written", "read"),
    [("/data/", "/data"), ("//data", "/data"), ("/a/./b//c", "/a/b/c"), ("/a..b", "/a..b")],
)
def test_a_mount_path_is_normalised(written: str, read: str) -> None:
    assert infer(config({"input_volumes": {"d": volume(written)}})).inputs[0].mount_path == read


WRONG: list[tuple[str, str, str]] = [
    ("", "the file", "a mapping"),
    ("[1, 2]", "the file", "a mapping"),
    (config(container_type="Podman"), "container_type", "DockerImage"),
    (config(container_type=["DockerImage"]), "container_type", "DockerImage"),
    (yaml.safe_dump({"image": "a", "tasks": {"infer": {}}}), "container_type", "DockerImage"),
    (config(image=""), "image", "where the image is"),
    (config(image=3), "image", "where the image is"),
    (config(image="Bugs/Mini:1"), "image", "small letters"),
    (config(image="site/model:1 "), "image", "small letters"),
    (config(image="https://example.org/model"), "image", "small letters"),
    (config(tasks={}), "tasks", "at least one"),
    (config(tasks=["infer"]), "tasks", "a mapping"),
    (config(tasks={"in/fer": {}}), "tasks", "names of letters"),
    (config(tasks={"infer": None}), "tasks.infer", "a mapping"),
    (config({"input_volume": {}}), "tasks.infer", "only run_args"),
    (config({"run_args": {"network": "host"}}), "tasks.infer.run_args", "only command"),
    (config({"run_args": {"command": 3}}), "tasks.infer.run_args.command", "text"),
    (config({"run_args": {"command": ["a", 3]}}), "tasks.infer.run_args.command", "texts"),
    (config({"run_args": {"command": "a\0b"}}), "tasks.infer.run_args.command", "text"),
    (config({"run_args": {"command": "'a"}}), "tasks.infer.run_args.command", "quotation"),
    (config({"run_args": {"entrypoint": {}}}), "tasks.infer.run_args.entrypoint", "text"),
    (config({"run_args": {"shm_size": "big"}}), "tasks.infer.run_args.shm_size", "2g"),
    (config({"run_args": {"shm_size": True}}), "tasks.infer.run_args.shm_size", "2g"),
    (config({"run_args": {"gpus": "two"}}), "tasks.infer.run_args.gpus", "device=ID"),
    (config({"run_args": {"gpus": "device="}}), "tasks.infer.run_args.gpus", "device=ID"),
    (config({"run_args": {"gpus": "9" * 5000}}), "tasks.infer.run_args.gpus", "device=ID"),
    (config({"run_args": {"shm_size": "9" * 400 + "g"}}), "tasks.infer.run_args.shm_size", "2g"),
    (config({"run_args": {"environment": {"A\0": 1}}}), "tasks.infer.run_args.environment", "="),
    (config(image="a\0b"), "image", "where the image is"),
    (config({"run_args": {"environment": ["A=1"]}}), "tasks.infer.run_args.environment", "map"),
    (config({"run_args": {"environment": {"A=B": 1}}}), "tasks.infer.run_args.environment", "="),
    (config({"run_args": {"environment": {"A": None}}}), "run_args.environment.A", "text"),
    (config({"input_volumes": ["data_path"]}), "tasks.infer.input_volumes", "a mapping"),
    (config({"input_volumes": {"d": "/data"}}), "tasks.infer.input_volumes.d", "a mapping"),
    (config({"input_volumes": {"../d": volume()}}), "tasks.infer.input_volumes", "names of"),
    (config({"input_volumes": {"d": volume(kind="folder")}}), "input_volumes.d.type", "file or"),
    (config({"input_volumes": {"d": {}}}), "tasks.infer.input_volumes.d.type", "file or"),
    (config({"output_volumes": {"d": {}}}), "output_volumes.d.mount_path", "an absolute path"),
    *[
        (config({"input_volumes": {"d": volume(path)}}), "input_volumes.d.mount_path", "absolute")
        for path in ("data", "", "/", "//", "/.", "/a/../b", "/..", "/a/..", "/a\0", 3, None)
    ],
    (
        config({"input_volumes": {"d": volume("/a")}, "output_volumes": {"d": volume("/b")}}),
        "tasks.infer",
        "two volumes have the name d",
    ),
    (
        config({"input_volumes": {"d": volume("/a")}, "output_volumes": {"e": volume("/a/")}}),
        "tasks.infer",
        "two volumes have the mount_path /a",
    ),
    (config(container_type="Process"), "tasks.infer.run_args.command", "what to run"),
    (
        config(
            {"input_volumes": {"a": volume("/a")}, "output_volumes": {"b": volume("/a/b")}},
            container_type="Process",
        ),
        "tasks.infer",
        "the volume at /a/b is inside /a",
    ),
]


@pytest.mark.parametrize(("text", "key", "expectation"), WRONG)
def test_what_is_wrong_is_named_by_key_and_expectation(
    text: str, key: str, expectation: str
) -> None:
    told = [line for line in refusal(text).splitlines()[1:] if f"{key}:" in line]
    assert any(expectation in line for line in told), refusal(text)


def test_everything_wrong_is_told_at_once() -> None:
    text = config(
        {"run_args": {"gpus": "two"}, "input_volumes": {"d": volume("data", "folder")}}, image=""
    )
    assert len(refusal(text).splitlines()) == 1 + 4


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: 1\na: 2", "? {a: b}\n: c", "a: 2024-99-99", "tasks: *none", "a: !!python/none"],
)
def test_what_is_not_yaml_is_refused(text: str) -> None:
    assert "is not YAML" in refusal(text)


def test_deep_and_wide_yaml_is_refused_at_once() -> None:
    assert "nesting" in refusal("[" * 100_000)
    wide = "".join(f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
    told = refusal(f"a: &a0 [x]\n{wide}container_type: *a39\nimage: *a39\ntasks: *a39\n")
    assert len(told) < 10_000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
TASKS = st.fixed_dictionaries(
    {},
    optional={
        "run_args": VALUES
        | st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("command", "entrypoint", "environment", "shm_size", "gpus"), VALUES
            ),
        ),
        "input_volumes": VALUES
        | st.dictionaries(
            st.text(max_size=4), st.fixed_dictionaries({"mount_path": VALUES, "type": VALUES})
        ),
        "output_volumes": VALUES,
    },
)


@given(task=TASKS, kind=st.sampled_from(["DockerImage", "Process"]) | VALUES)
def test_whatever_is_written_it_parses_or_is_refused(task: Any, kind: Any) -> None:
    text = config(task, container_type=kind)
    try:
        fingerprint = infer(text).fingerprint()
    except InvalidContainer:
        return
    assert json.loads(json.dumps(fingerprint)) == fingerprint


@given(st.binary() | st.text())
def test_arbitrary_bytes_parse_or_are_refused(content: bytes | str) -> None:
    try:
        parse(content, SOURCE)
    except InvalidContainer:
        return
    raise AssertionError("noise was taken for a container")


def test_a_fingerprint_tells_tasks_apart_by_what_they_do_and_nothing_else() -> None:
    first = {"a": volume("/a"), "b": volume("/b", "file")}
    same = infer(config({"input_volumes": first, "run_args": {"environment": {"A": 1, "B": 2}}}))
    other_order = infer(
        config(
            {
                "input_volumes": dict(reversed(first.items())),
                "run_args": {"command": [], "environment": {"B": 2, "A": 1}},
            }
        )
    )
    assert json.dumps(same.fingerprint()) == json.dumps(other_order.fingerprint())
    base = {"input_volumes": first}
    different = [
        infer(config(task))
        for task in (
            base,
            {**base, "run_args": {"command": "a"}},
            {**base, "run_args": {"entrypoint": "a"}},
            {**base, "run_args": {"entrypoint": ""}},
            {**base, "run_args": {"environment": {"A": 1}}},
            {**base, "run_args": {"shm_size": "1m"}},
            {**base, "run_args": {"gpus": 1}},
            {**base, "run_args": {"gpus": "device=1"}},
            {"output_volumes": first},
            {"input_volumes": {**first, "a": volume("/c")}},
            {"input_volumes": {**first, "a": volume("/a", "file")}},
        )
    ]
    assert len({json.dumps(task.fingerprint()) for task in different}) == len(different)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidContainer, match=f"{tmp_path}/none.yaml"):
        load(tmp_path / "none.yaml")


def test_parsing_costs_no_slow_import() -> None:
    code = f"""
import sys
sys.path[:0] = {IMPORT_ROOTS!r}
import medperf_client.containers.spec
print(sorted({{"docker", "requests", "rich", "flask", "click"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
