"""How long `medperf` takes when there is nothing to do: its help, and an unchanged test."""

import shutil
import tarfile
from typing import Any

from benchmarks.stage import MEDPERF, PYTHON, consortium, environment, grow
from benchmarks.timing import Run, command, compare

BARE = command([PYTHON, "-c", "pass"])
HELP_GOAL, REPEAT_GOAL, LARGE_GOAL = 4.0, 12.0, 1.2
LARGE_GIBIBYTES = 2


def measure(rounds: int = 15) -> dict[str, Any]:
    """`--help` and an unchanged `test run` against `python -c pass`; 2 GiB against none."""
    figures = {"help": compare(command([MEDPERF, "--help"]), BARE, rounds, HELP_GOAL)}
    with consortium("process") as stage:
        owner = stage.member("owner")
        seen = environment(owner)

        def test_of(model: str) -> Run:
            words = [MEDPERF, "test", "run", "--benchmark", "1", "--model", model]
            return command(words, seen, stage.folder)

        large = stage.host.folder / "large_model"
        shutil.copytree(stage.candidate, large)
        files = large / "workspace" / "additional_files"
        grow(files, LARGE_GIBIBYTES)
        with tarfile.open(stage.host.folder / "assets/large_additional_files.tar", "w") as archive:
            archive.add(files, arcname=".")
        small_options = stage.container_options("model_mlp")
        large_archive = f"{stage.host.url}assets/large_additional_files.tar"
        large_options = [*small_options[:-1], large_archive]
        for name, options in (("small", small_options), ("large", large_options)):
            owner.does("container", "submit", "--name", name, *options, "--operational", "-y")
        small_path = str(stage.candidate / "container_config.yaml")
        pairs = {"path": (small_path, str(large / "container_config.yaml")), "uid": ("4", "5")}
        for name, (small, big) in pairs.items():
            figures[f"repeat_{name}"] = compare(test_of(small), BARE, rounds, REPEAT_GOAL)
            figures[f"repeat_{name}_2GiB"] = compare(
                test_of(big), test_of(small), rounds, LARGE_GOAL
            )
    return figures
