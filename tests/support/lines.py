"""A container that plays every part of a benchmark: its preparator doubles lines, the rest counts.

So a result tells whether data were prepared: each time they are, they have twice as many lines.
"""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.consortium import Consortium, Member

CONFIG = """
container_type: Process
image: project.tar
tasks:
  prepare:
    run_args: {command: python3 main.py prepare data prepared}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
      labels_path: {mount_path: /volumes/labels, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/prepared, type: directory}
      output_labels_path: {mount_path: /volumes/prepared_labels, type: directory}
  sanity_check:
    run_args: {command: python3 main.py check data}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
      labels_path: {mount_path: /volumes/labels, type: directory}
  statistics:
    run_args: {command: python3 main.py count data statistics.yaml}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/statistics.yaml, type: file}
  infer:
    run_args: {command: python3 main.py copy data predictions}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/predictions, type: directory}
  evaluate:
    run_args: {command: python3 main.py count predictions results.yaml}
    input_volumes:
      predictions: {mount_path: /volumes/predictions, type: directory}
      labels: {mount_path: /volumes/labels, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/results.yaml, type: file}
"""
PROGRAM = """
import os, sys
from pathlib import Path

def at(name):
    return Path(os.environ["MEDPERF_VOLUMES"] + "/volumes/" + name)

task, source = sys.argv[1], at(sys.argv[2])
lines = (source / "lines.txt").read_text().splitlines(keepends=True)
if task == "count":
    at(sys.argv[3]).write_text(f"lines: {len(lines)}")
elif task != "check":
    times = 2 if task == "prepare" else 1
    (at(sys.argv[3]) / "lines.txt").write_text("".join(lines * times))
if task == "prepare":
    (at("prepared_labels") / "label.txt").write_text((at("labels") / "label.txt").read_text())
"""
# Data of two lines, and their labels.
DATA = {
    "paths.yaml": "data_path: data\nlabels_path: labels",
    "data/lines.txt": "one\ntwo\n",
    "labels/label.txt": "malignant\n",
}


def write_container(folder: Path) -> Path:
    """Write the container into a folder; returns its configuration."""
    folder.mkdir()
    packed(folder / "project.tar", {"main.py": PROGRAM})
    config = folder / "container_config.yaml"
    config.write_text(CONFIG)
    return config


def write_data(folder: Path) -> tuple[Path, Path]:
    """Write the data as folders; returns those of the data and of the labels."""
    for name, text in DATA.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "data", folder / "labels"


def packed(archive: Path, files: Mapping[str, str] = DATA) -> Path:
    """A tar archive of files that hold these texts."""
    with tarfile.open(archive, "w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return archive


def submitted(consortium: Consortium) -> Member:
    """A member who has registered the container, as UID 4, and hosts data for it."""
    member = consortium.member("owner")
    config = str(write_container(member.home.parent / "container"))
    words = ("--name", "lines", "--container-config-file", config, "--operational", "-y")
    member.does("container", "submit", *words)
    packed(consortium.host.folder / "lines.tar")
    return member
