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
HOSPITALS = EXAMPLE / "data" / "hospitals"
CONTAINERS = (
    *("data_preparator", "data_preparator_staged"),
    *("model_logistic", "model_mlp", "metrics"),
)
SOURCE = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"


def load(script: Path) -> ModuleType:
    """Import a Python file of the example, which is no package."""
    name = f"example_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


packaging = load(EXAMPLE / "package.py")


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


@dataclass(frozen=True)
class Task:
    """A task whose volumes are laid out: what runs it, and where its outputs will be."""

    options: dict[str, Any]
    outputs: dict[str, Path]

    def run(self) -> Run:
        """Run it to its end."""
        done = subprocess.run(**self.options, capture_output=True, text=True, timeout=120)
        return Run(done.returncode, done.stdout, done.stderr, self.outputs)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, to be killed."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(**self.options, stdout=quiet, stderr=quiet)


def run_task(
    container: str,
    task: str,
    root: Path,
    inputs: dict[str, Path],
    changed: dict[str, Any] | None = None,
) -> Run:
    """Run a task, see `laid_out`."""
    return laid_out(container, task, root, inputs, changed).run()


def laid_out(
    container: str,
    task: str,
    root: Path,
    inputs: dict[str, Path],
    changed: dict[str, Any] | None = None,
) -> Task:
    """A task with its volumes under `root`, and its parameters in the tree but for `changed`.

    It finds the outputs of an earlier run there again. No installed package can be imported.
    """
    folder = EXAMPLE / container
    packaging.copy(packaging.code(folder), root / "project")
    spec = yaml.safe_load((folder / "container_config.yaml").read_text())["tasks"][task]
    parameters = yaml.safe_load((folder / "workspace" / "parameters.yaml").read_text())
    parameters_file = root / "parameters.yaml"
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
        if volume["type"] == "directory":
            shutil.rmtree(place(volume), ignore_errors=True)
            shutil.copytree(available[name], place(volume))
        else:
            shutil.copyfile(available[name], place(volume))
    outputs = {name: place(volume) for name, volume in spec.get("output_volumes", {}).items()}
    for name, path in outputs.items():
        if spec["output_volumes"][name]["type"] == "directory":
            path.mkdir(exist_ok=True)
        else:
            path.touch()
    _, *arguments = shlex.split(spec["run_args"]["command"])
    options = {
        "args": [sys.executable, "-S", "-B", *arguments],
        "cwd": root / "project",
        "env": {"MEDPERF_VOLUMES": str(root / "volumes")},
    }
    return Task(options, outputs)


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


@dataclass(frozen=True)
class Prepared:
    """A prepared data set, and the run that made it."""

    data: Path
    labels: Path
    run: Run

    def inputs(self) -> dict[str, Path]:
        """Return it as the inputs of a task."""
        return {"data_path": self.data, "labels_path": self.labels}
