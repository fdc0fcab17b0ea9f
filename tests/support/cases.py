"""A benchmark whose data are cases, a file each, and models that say so.

Its reference model, preparator and metrics are one container. A prediction is the case's number,
which the other models double, and the result is their sum.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cluster import Site
from tests.support.consortium import Consortium
from tests.support.hospital import Hospital, as_committee, direct
from tests.support.lines import packed

# As many as may be told of: a result of fewer is not to be released.
NAMES = "abcdefghijkl"
PROGRAM = """
import os, sys, time
from pathlib import Path

def at(name):
    return Path(os.environ["MEDPERF_VOLUMES"] + "/volumes/" + name)

def waits(gate, names):
    try:
        return gate.read_text() in names
    except FileNotFoundError:
        return False

task, data = sys.argv[1], at("data")
if task == "prepare":
    for case in data.iterdir():
        (at("prepared") / case.name).write_text(case.read_text())
    (at("prepared_labels") / "label.txt").write_text("any")
elif task == "statistics":
    at("statistics.yaml").write_text(f"cases: {len(list(data.iterdir()))}")
elif task == "infer":
    made, cases = at("predictions") / "by_case", sorted(data.iterdir())
    names = "".join(case.stem for case in cases)
    if "SEEN" in os.environ:
        seen = Path(os.environ["SEEN"])
        with open(seen, "a") as file:
            file.write(names + "\\n")
        while waits(seen.with_suffix(".gate"), names):
            time.sleep(0.05)
        broken = seen.with_suffix(".broken")
        if broken.exists() and broken.read_text() in names:
            sys.exit(3)
    made.mkdir()
    for case in cases:
        (made / case.name).write_text(str(FACTOR * int(case.read_text())))
    if "SUMMARY" in os.environ:
        (at("predictions") / "summary.txt").write_text(names)
    if "LEAVES" in os.environ:
        # Each part by itself stays where it is.
        made = at("predictions")
        if "a" in names:
            (made / "d").symlink_to(".")
            (made / "e").symlink_to(".")
        elif "e" in names:
            (made / "d" / "e").mkdir(parents=True)
            (made / "d" / "e" / "l").symlink_to("../..")
            (made / "l").mkdir()
            (made / "l" / "LEFT").touch()
elif task == "evaluate":
    made = [int(one.read_text()) for one in (at("predictions") / "by_case").iterdir()]
    at("results.yaml").write_text(f"cases: {len(made)}\\nsum: {sum(made)}\\n")
"""
INFER = """
  infer:
    run_args: {command: python3 main.py infer, environment: ENVIRONMENT}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/predictions, type: directory}
"""
HEAD = """
container_type: Process
image: project.tar
tasks:"""
REST = """
  prepare:
    run_args: {command: python3 main.py prepare}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
      labels_path: {mount_path: /volumes/labels, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/prepared, type: directory}
      output_labels_path: {mount_path: /volumes/prepared_labels, type: directory}
  sanity_check:
    run_args: {command: python3 main.py check}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
      labels_path: {mount_path: /volumes/labels, type: directory}
  statistics:
    run_args: {command: python3 main.py statistics}
    input_volumes:
      data_path: {mount_path: /volumes/data, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/statistics.yaml, type: file}
  evaluate:
    run_args: {command: python3 main.py evaluate}
    input_volumes:
      predictions: {mount_path: /volumes/predictions, type: directory}
      labels: {mount_path: /volumes/labels, type: directory}
    output_volumes:
      output_path: {mount_path: /volumes/results.yaml, type: file}
"""


@dataclass
class Shared:
    """A model whose cases can be shared out, and what it says of each time that it began."""

    uid: int
    seen: Path

    @property
    def begun(self) -> list[str]:
        """The cases of each job that began, those of one in one text."""
        return self.seen.read_text().split() if self.seen.exists() else []

    @property
    def gate(self) -> Path:
        """While this file is there, what began waits: all of it, or the job with the case in it."""
        return self.seen.with_suffix(".gate")

    @property
    def broken(self) -> Path:
        """The job with the case that this file names fails."""
        return self.seen.with_suffix(".broken")


class CasesSite(Site):
    """A hospital with a dataset of such a benchmark, whose models run in a queue."""

    @property
    def words(self) -> tuple[str, ...]:
        """See `Site`."""
        return ("benchmark", "run", "-b", "2", "-d", self.uid, "--json")

    def model(self, name: str, folder: Path, **environment: str) -> Shared:
        """Have one more model, approved, that says that its cases can be shared out."""
        consortium, seen = self.hospital.consortium, folder / name
        variables = {"MEDPERF_CASES": "data_path", "SEEN": str(seen), **environment}
        uid = _container(consortium, name, INFER, variables)
        association = {"model_mlcube": uid, "benchmark": 2, "approval_status": "PENDING"}
        direct(consortium, "committee").post(
            "/mlcubes/benchmarks/", {**association, "metadata": {}}, f"{uid:036}"
        )
        self.hospital.member.does("sync")
        return Shared(uid, seen)

    def outcome(self, model: Shared, *more: str) -> dict[str, Any]:
        """Run all models; what became of one."""
        (found,) = [one for one in self.run(*more) if one["model"] == model.uid]
        return found


def make_benchmark(consortium: Consortium) -> None:
    """Benchmark 2 of a consortium that has one."""
    uid = str(_container(consortium, "cases", INFER + REST, {}))
    demo = {"paths.yaml": "data_path: data\nlabels_path: labels", "labels/label.txt": "any"}
    demo |= {f"data/{name}.txt": "1" for name in NAMES}
    packed(consortium.host.folder / "cases.tar", demo)
    committee = as_committee(consortium)
    committee.does(
        *("benchmark", "submit", "--name", "cases", "--operational", "-y"),
        *("--demo-url", f"{consortium.host.url}cases.tar", "--data-preparation-container", uid),
        *("--reference-model-container", uid, "--evaluator-container", uid),
    )
    consortium.member("administrator", admin=True).does("benchmark", "approve", "2", "-y")


def dataset_of(hospital: Hospital, folder: Path, names: str = NAMES) -> str:
    """A dataset of cases 1 to 12, written to a folder, that is approved in that benchmark; its UID.

    The benchmark was made after the hospital last asked.
    """
    member, (data, labels) = hospital.member, _written(folder, names)
    member.does("sync")
    words = ("-d", str(data), "-l", str(labels), "--name", folder.name, "-y")
    uid = str(member.json("dataset", "submit", "-b", "2", *words)["id"])
    member.does("dataset", "prepare", "-d", uid, "-y")
    member.does("dataset", "set_operational", "-d", uid, "-y")
    member.does("dataset", "associate", "-d", uid, "-b", "2", "-y")
    approve = ("association", "approve", "-b", "2", "-d", uid, "-y")
    as_committee(hospital.consortium).does(*approve)
    member.does("sync")
    return uid


def _written(folder: Path, names: str) -> tuple[Path, Path]:
    data, labels = folder / "data", folder / "labels"
    for made in (data, labels):
        made.mkdir(parents=True)
    for number, name in enumerate(names, 1):
        (data / f"{name}.txt").write_text(str(number))
    (labels / "label.txt").write_text("any")
    return data, labels


def _container(consortium: Consortium, name: str, tasks: str, environment: dict[str, str]) -> int:
    """Register a container that is like no other; its UID."""
    place = consortium.host.folder / name
    place.mkdir()
    packed(
        place / "project.tar",
        {"main.py": f"# {name}\nFACTOR = {2 if tasks == INFER else 1}\n{PROGRAM}"},
    )
    text = (HEAD + tasks).replace("ENVIRONMENT", json.dumps(environment))
    url = f"{consortium.host.url}{name}/"
    (place / "config.yaml").write_text(text.replace("project.tar", f"{url}project.tar"))
    words = ("--name", name, "--container-config-file", f"{url}config.yaml", "--operational")
    uid: int = as_committee(consortium).json("container", "submit", *words, "-y")["id"]
    return uid
