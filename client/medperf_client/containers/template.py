"""Containers to start from: one of each kind, that works as it is written."""

from pathlib import Path

from medperf_client.errors import UsageError

DOCKERFILE = """\
# Nothing is RUN, so this builds without network wherever BASE is at hand.
ARG BASE=python:3.12-slim
FROM ${BASE}
COPY project /project
WORKDIR /project
"""

_CONFIG_HEAD = """\
# How MedPerf runs this container. Change mount paths and commands to suit your code; the names of
# tasks and volumes are what MedPerf goes by.

# DockerImage: `image` is what `docker pull` takes.
# DockerArchive: `image` is the URL of what `docker save` wrote.
container_type: DockerImage
image: registry.example.org/my-institute/my-{kind}:1.0

# Allowed under run_args: command, entrypoint, environment, shm_size (such as 2g),
# gpus (all, a number, or device=0,1).
# A task has no network, runs as the user who started it, reads its inputs, and writes to its
# outputs and to /tmp only.
tasks:
"""

_PARAMETERS_VOLUME = """\
      # workspace/parameters.yaml: settings that can change without a new image.
      parameters_file:
        mount_path: /mlcommons/volumes/parameters/parameters_file.yaml
        type: file
"""

_PREPARED_VOLUMES = """\
    input_volumes:
      data_path:
        mount_path: /mlcommons/volumes/data
        type: directory
      labels_path:
        mount_path: /mlcommons/volumes/labels
        type: directory
"""

_CONFIGS = {
    "data_preparator": f"""\
  # From a site's own files to the form that every model of the benchmark reads.
  prepare:
    run_args:
      command: python3 main.py prepare
    input_volumes:
      data_path:
        mount_path: /mlcommons/volumes/raw_data
        type: directory
      labels_path:
        mount_path: /mlcommons/volumes/raw_labels
        type: directory
{_PARAMETERS_VOLUME}\
    output_volumes:
      output_path:
        mount_path: /mlcommons/volumes/data
        type: directory
      output_labels_path:
        mount_path: /mlcommons/volumes/labels
        type: directory
  # Ends with an exit code other than 0 if the prepared data must not be used.
  sanity_check:
    run_args:
      command: python3 main.py sanity_check
{_PREPARED_VOLUMES}\
  # What may be told about the data: it is shown to the site before it leaves it.
  statistics:
    run_args:
      command: python3 main.py statistics
{_PREPARED_VOLUMES}\
    output_volumes:
      output_path:
        mount_path: /mlcommons/volumes/statistics/statistics.yaml
        type: file
""",
    "model": f"""\
  infer:
    run_args:
      command: python3 main.py infer
    input_volumes:
      data_path:
        mount_path: /mlcommons/volumes/data
        type: directory
{_PARAMETERS_VOLUME}\
      # To keep weights out of the image, put them into workspace/additional_files/ and add:
      # additional_files:
      #   mount_path: /mlcommons/volumes/additional_files
      #   type: directory
    output_volumes:
      output_path:
        mount_path: /mlcommons/volumes/predictions
        type: directory
""",
    "metrics": f"""\
  evaluate:
    run_args:
      command: python3 main.py evaluate
    input_volumes:
      predictions:
        mount_path: /mlcommons/volumes/predictions
        type: directory
      labels:
        mount_path: /mlcommons/volumes/labels
        type: directory
{_PARAMETERS_VOLUME}\
    output_volumes:
      output_path:
        mount_path: /mlcommons/volumes/results/results.yaml
        type: file
""",
}

_PARAMETERS = {
    "data_preparator": "# Raw data of fewer files are refused.\nminimum_files: 1\n",
    "model": "# What is predicted for every file.\nprediction: 0.5\n",
    "metrics": "# A prediction from here on counts as positive.\nthreshold: 0.5\n",
}

_CODE_HEAD = '''\
"""{title}: `python3 main.py {tasks}`."""

import os
import shutil
import sys
from pathlib import Path


def volume(mount_path: str) -> Path:
    """Return where a volume is: at its mount path, or below MEDPERF_VOLUMES for a plain process."""
    return Path(os.environ.get("MEDPERF_VOLUMES", "/")) / mount_path.lstrip("/")


def parameter(name: str) -> str:
    """Return a setting of parameters.yaml, which holds `name: value` lines."""
    path = volume("/mlcommons/volumes/parameters/parameters_file.yaml")
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    sys.exit(f"parameters.yaml lacks {{name}}")

'''

_CODE = {
    "data_preparator": '''
DATA = volume("/mlcommons/volumes/data")
LABELS = volume("/mlcommons/volumes/labels")


def prepare() -> None:
    """Bring the site's files into the benchmark's form. Here: copy them."""
    raw_data = volume("/mlcommons/volumes/raw_data")
    raw_labels = volume("/mlcommons/volumes/raw_labels")
    if len(list(raw_data.iterdir())) < int(parameter("minimum_files")):
        sys.exit(f"{raw_data} holds too few files")
    for source, target in ((raw_data, DATA), (raw_labels, LABELS)):
        for file in source.iterdir():
            shutil.copyfile(file, target / file.name)


def sanity_check() -> None:
    """Refuse prepared data that no model should see."""
    for file in DATA.iterdir():
        if not (LABELS / file.name).exists():
            sys.exit(f"{file.name} has no label")


def statistics() -> None:
    """Write what may be told about the data, as YAML."""
    path = volume("/mlcommons/volumes/statistics/statistics.yaml")
    path.write_text(f"files: {len(list(DATA.iterdir()))}\\n")
''',
    "model": '''
def infer() -> None:
    """Write a prediction for each file. Here: the same for all."""
    data = volume("/mlcommons/volumes/data")
    predictions = volume("/mlcommons/volumes/predictions")
    for file in sorted(data.iterdir()):
        (predictions / file.name).write_text(parameter("prediction"))
''',
    "metrics": '''
def evaluate() -> None:
    """Compare predictions with labels and write the metrics, as YAML."""
    predictions = volume("/mlcommons/volumes/predictions")
    labels = volume("/mlcommons/volumes/labels")
    threshold = float(parameter("threshold"))
    right = [
        (float(file.read_text()) >= threshold) == (float((labels / file.name).read_text()) > 0)
        for file in predictions.iterdir()
    ]
    if not right:
        sys.exit("there are no predictions")
    results = volume("/mlcommons/volumes/results/results.yaml")
    results.write_text(f"accuracy: {sum(right) / len(right)}\\n")
''',
}

_TITLES = {"data_preparator": "A data preparator", "model": "A model", "metrics": "Metrics"}
_TASKS = {
    "data_preparator": ("prepare", "sanity_check", "statistics"),
    "model": ("infer",),
    "metrics": ("evaluate",),
}
KINDS = tuple(_CONFIGS)


def write_template(kind: str, folder: Path) -> None:
    """Write a container of that kind (one of `KINDS`) into `folder`, which is made.

    Raises `UsageError` rather than write into a folder that holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already", hint="Name a folder that does not exist yet.")
    for name, text in _files(kind).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _files(kind: str) -> dict[str, str]:
    tasks = _TASKS[kind]
    code = _CODE_HEAD.format(title=_TITLES[kind], tasks="|".join(tasks))
    if "shutil" not in _CODE[kind]:
        code = code.replace("import shutil\n", "")
    dispatch = "".join(f'        "{task}": {task},\n' for task in tasks)
    return {
        "container_config.yaml": _CONFIG_HEAD.format(kind=kind.replace("_", "-")) + _CONFIGS[kind],
        "Dockerfile": DOCKERFILE,
        "project/main.py": f"""\
{code}{_CODE[kind]}

if __name__ == "__main__":
    tasks = {{
{dispatch}    }}
    if len(sys.argv) != 2 or sys.argv[1] not in tasks:
        sys.exit(f"usage: python3 main.py {{'|'.join(tasks)}}")
    tasks[sys.argv[1]]()
""",
        "workspace/parameters.yaml": _PARAMETERS[kind],
    }
