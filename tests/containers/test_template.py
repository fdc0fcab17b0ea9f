"""The templates work as they are written, as plain processes and as images."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.job import Job, Limits
from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import PROCESS, ContainerSpec, load, parse
from medperf_client.containers.template import KINDS, write_template
from medperf_client.errors import UsageError
from tests.support.images import build

if TYPE_CHECKING:
    from docker import DockerClient


PREPARED = {"data_path": "data", "labels_path": "labels"}
# Container, task, and where each of its volumes is.
STEPS: list[tuple[str, str, dict[str, str]]] = [
    (
        "data_preparator",
        "prepare",
        {
            "data_path": "raw_data",
            "labels_path": "raw_labels",
            "output_path": "data",
            "output_labels_path": "labels",
        },
    ),
    ("data_preparator", "sanity_check", PREPARED),
    ("data_preparator", "statistics", {**PREPARED, "output_path": "statistics.yaml"}),
    ("model", "infer", {"data_path": "data", "output_path": "predictions"}),
    (
        "metrics",
        "evaluate",
        {"predictions": "predictions", "labels": "labels", "output_path": "results.yaml"},
    ),
]


class Site:
    """A site's data, and the three templates with their images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("raw_data", "raw_labels"):
            (folder / name).mkdir()
        for case, label in ("a", "1"), ("b", "0"):
            (folder / "raw_data" / case).write_text(f"scan {case}")
            (folder / "raw_labels" / case).write_text(label)
        for kind in KINDS:
            write_template(kind, folder / kind)

    def spec(self, kind: str, platform: str) -> ContainerSpec:
        """The configuration of a template, for a platform."""
        path = self.folder / kind / "container_config.yaml"
        return parse(path.read_text().replace("type: DockerImage", f"type: {platform}"), str(path))

    def run(
        self, runner: Runner, spec: ContainerSpec, task: str, image_id: str, **paths: str
    ) -> None:
        """Run a task; `paths` are those of its volumes, below the site's folder."""
        kind = Path(spec.source).parent
        volumes = {name: self.folder / path for name, path in paths.items()}
        volumes["parameters_file"] = kind / "workspace" / "parameters.yaml"
        wanted = spec.task(task)
        for volume in wanted.outputs:
            if volume.kind == "directory":
                volumes[volume.name].mkdir(exist_ok=True)
            else:
                volumes[volume.name].touch()
        runner.run(
            Job.of(
                runner.name,
                wanted,
                image_id,
                {volume.name: volumes[volume.name] for volume in wanted.inputs},
                {volume.name: volumes[volume.name] for volume in wanted.outputs},
                self.folder / f"{task}.log",
                archive=self.folder / image_id if runner.name == "process" else None,
                limits=Limits(seconds=60),
            )
        )

    def whole_benchmark(
        self, runner: Runner, specs: dict[str, ContainerSpec], images: dict[str, str]
    ) -> str:
        """Run all five steps; returns the results file."""
        for kind, task, paths in STEPS:
            self.run(runner, specs[kind], task, images[kind], **paths)
        assert (self.folder / "statistics.yaml").read_text() == "files: 2\n"
        return (self.folder / "results.yaml").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has the templates and two labelled scans."""
    return Site(tmp_path)


def test_the_templates_run_as_processes(site: Site) -> None:
    runner = ProcessRunner(allowed=True)
    specs = {kind: site.spec(kind, PROCESS) for kind in KINDS}
    images = {}
    for kind in KINDS:
        # The cache names a folder of code by its digest; here any name of its own will do.
        code = (site.folder / kind / "project").rename(site.folder / f"{kind}-code")
        images[kind] = runner.provide(specs[kind], code)
    assert site.whole_benchmark(runner, specs, images) == "accuracy: 0.5\n"


def test_the_templates_run_as_images(site: Site, engine: "DockerClient") -> None:
    specs = {kind: load(site.folder / kind / "container_config.yaml") for kind in KINDS}
    images = {
        kind: build(engine, site.folder / kind, f"localhost/medperf-test/{kind}:template")
        for kind in KINDS
    }
    assert site.whole_benchmark(DockerRunner(), specs, images) == "accuracy: 0.5\n"
    for image_id in images.values():
        engine.images.remove(f"sha256:{image_id}", force=True)


def test_the_preparator_refuses_data_without_labels(site: Site) -> None:
    (site.folder / "raw_labels" / "b").unlink()
    code = site.folder / "data_preparator" / "project" / "main.py"
    volumes = site.folder / "mlcommons" / "volumes"
    volumes.mkdir(parents=True)
    (volumes / "data").symlink_to(site.folder / "raw_data")
    (volumes / "labels").symlink_to(site.folder / "raw_labels")
    done = subprocess.run(
        ["python3", code, "sanity_check"],
        env={"MEDPERF_VOLUMES": str(site.folder), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "b has no label\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_never_overwrites(kind: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for place in (tmp_path, precious):
        with pytest.raises(UsageError, match="exists already"):
            write_template(kind, place)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert precious.read_text() == "mine"
