"""What containers write is bounded, and is of the kind that a report needs."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import lines
from tests.support.consortium import Consortium, Member

CONFIG = "container_config.yaml"
PREDICTIONS = "/mlcommons/volumes/predictions"
MODEL = f"""
container_type: Process
image: project
tasks:
  infer:
    run_args:
      command: python3 main.py
    input_volumes:
      data_path: {{mount_path: /mlcommons/volumes/data, type: directory}}
    output_volumes:
      output_path: {{mount_path: {PREDICTIONS}, type: directory}}
"""
HEAD = f"import os\nout = os.environ['MEDPERF_VOLUMES'] + '{PREDICTIONS}/'\n"

Tried = subprocess.CompletedProcess[str]


@pytest.fixture
def tried(newcomer: Member, tmp_path: Path) -> Callable[..., Tried]:
    """Tests a model whose program is `code`, with a setting of the profile."""

    def tried(code: str, name: str = "", value: int = 0) -> Tried:
        (tmp_path / "model" / "project").mkdir(parents=True)
        (tmp_path / "model" / CONFIG).write_text(MODEL)
        (tmp_path / "model" / "project" / "main.py").write_text(HEAD + code)
        if name:
            newcomer.does("profile", "set", name, str(value))
        model = str(tmp_path / "model" / CONFIG)
        return newcomer.run("test", "run", "--benchmark", "1", "--model", model)

    return tried


def test_an_output_of_nothing_but_holes_is_refused_unread(tried: Callable[..., Tried]) -> None:
    # To read it would take minutes.
    done = tried("with open(out + 'sparse', 'wb') as file:\n    file.truncate(200 * 10**9)")
    assert done.returncode == 1, done.stderr
    assert re.search("task infer of .* wrote more than 100000000000 bytes", done.stderr)
    assert "output_bytes" in done.stderr


def test_an_output_that_no_other_cache_would_take_is_refused(tried: Callable[..., Tried]) -> None:
    code = (
        "for _ in range(105):\n    out += 'd/'\nos.makedirs(out)\nopen(out + 'f', 'w').write('1')"
    )
    done = tried(code)
    assert done.returncode == 1, done.stderr
    assert re.search("task infer of .* wrote what no cache takes: 'd/d/.*100 folders", done.stderr)


def test_a_profile_bounds_what_all_outputs_of_a_task_hold(tried: Callable[..., Tried]) -> None:
    code = "for name in 'ab':\n    open(out + name, 'wb').write(bytes(60_000))"
    done = tried(code, "output_bytes", 100_000)
    assert done.returncode == 1, done.stderr
    assert re.search("task infer of .* wrote more than 100000 bytes", done.stderr)


def test_a_profile_bounds_the_files_of_an_output_folders_included(
    tried: Callable[..., Tried], newcomer: Member
) -> None:
    code = "for number in range(60):\n    os.makedirs(f'{out}/{number}/deep')"
    done = tried(code, "output_files", 100)
    assert done.returncode == 1, done.stderr
    assert re.search("task infer of .* made more than 100 files", done.stderr)
    assert "output_files" in done.stderr
    assert not [path for path in newcomer.home.rglob("deep") if path.is_dir()]


def test_results_have_to_be_a_file(
    consortium: Consortium, newcomer: Member, tmp_path: Path
) -> None:
    folder = shutil.copytree(consortium.host.folder / "metrics", tmp_path / "metrics")
    config = folder / CONFIG
    written, _, after = config.read_text().partition("output_path:")
    config.write_text(f"{written}output_path:{after.replace('type: file', 'type: directory', 1)}")
    model = str(consortium.candidate / CONFIG)
    words = ("--benchmark", "1", "--model", model, "--evaluator", str(config))
    done = newcomer.run("test", "run", *words)
    assert done.returncode == 1, done.stderr
    said = "tasks.evaluate.output_volumes.output_path.type: expected file, found directory"
    assert said in done.stderr and "Make room" not in done.stderr


def test_a_small_number_of_json_arrives_as_a_number(newcomer: Member, tmp_path: Path) -> None:
    config = lines.write_container(tmp_path / "lines")
    program = lines.PROGRAM.replace('f"lines: {len(lines)}"', """'{"loss": 1e-05}'""")
    lines.packed(config.parent / "project.tar", {"main.py": program})
    data, labels = lines.write_data(tmp_path / "given")
    parts = [word for name in ("-p", "-m", "-e") for word in (name, str(config))]
    given = ("--data_path", str(data), "--labels_path", str(labels))
    report = newcomer.json("test", "run", *parts, *given)
    assert report["results"] == report["statistics"] == {"loss": 1e-05}
