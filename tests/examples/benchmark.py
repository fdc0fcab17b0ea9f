"""Run tasks of the tutorial benchmark's containers as plain processes, volumes as configured."""

import csv
import importlib.util
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import sklearn.datasets
import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "breast_cancer"
DEMO = EXAMPLE / "data" / "demo"
CONTAINERS = ("data_preparator", "model_logistic", "model_mlp", "metrics")
SOURCE = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"


@dataclass(frozen=True)
class Run:
    """How a task ended: its exit code, what it printed, and its outputs by their names."""

    code: int
    printed: str
    errors: str
    outputs: dict[str, Path] = field(default_factory=dict)

    def output(self, name: str) -> Path:
        """Return an output of a task that must have ended well."""
        assert self.code == 0, self.errors
        return self.outputs[name]


def run_task(
    container: str,
    task: str,
    root: Path,
    inputs: dict[str, Path],
    changed: dict[str, Any] | None = None,
) -> Run:
    """Run a task with its volumes under `root`, and its parameters in the tree but for `changed`.

    No installed package can be imported.
    """
    folder = EXAMPLE / container
    spec = yaml.safe_load((folder / "container_config.yaml").read_text())["tasks"][task]
    parameters = yaml.safe_load((folder / "workspace" / "parameters.yaml").read_text())
    parameters_file = root / "parameters.yaml"
    root.mkdir(parents=True)
    parameters_file.write_text(yaml.safe_dump({**parameters, **(changed or {})}))
    available = {
        "parameters_file": parameters_file,
        "additional_files": folder / "workspace" / "additional_files",
        **inputs,
    }

    def place(volume: dict[str, str]) -> Path:
        path = root / "volumes" / volume["mount_path"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    for name, volume in spec["input_volumes"].items():
        copy = shutil.copytree if volume["type"] == "directory" else shutil.copyfile
        copy(available[name], place(volume))
    outputs = {name: place(volume) for name, volume in spec.get("output_volumes", {}).items()}
    for name, path in outputs.items():
        if spec["output_volumes"][name]["type"] == "directory":
            path.mkdir()
        else:
            path.touch()
    _, *arguments = shlex.split(spec["run_args"]["command"])
    done = subprocess.run(
        [sys.executable, "-S", "-B", *arguments],
        cwd=folder / "project",
        env={"MEDPERF_VOLUMES": str(root / "volumes")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Run(done.returncode, done.stdout, done.stderr, outputs)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file with the columns of its first row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def load(script: Path) -> ModuleType:
    """Import a Python file of the example, which is no package."""
    name = f"example_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
