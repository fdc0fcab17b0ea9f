"""A benchmark of files of Apptainer's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.apptainer import path_without_apptainer
from tests.support.docker_fixtures import engine
from tests.support.engines import APPTAINER, DOCKER, SIF, Shared, sharing
from tests.support.reports import ALL_STEPS, ran, report_of

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine"]


@pytest.fixture(scope="module")
def of_files(engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The consortium, of images that are files of Apptainer's at URLs."""
    with sharing(engine, tmp_path_factory.mktemp("files"), SIF) as made:
        yield made


def test_files_of_apptainers_own_run_there_and_are_remembered_anywhere(
    of_files: Shared, tmp_path: Path
) -> None:
    site = of_files.site(APPTAINER)
    report = report_of(site, 2)
    assert ran(report) == ALL_STEPS
    assert [step["image_id"] for step in report["steps"]] == of_files.of_steps
    assert site.json("benchmark", "fetch", "1")["ready"]
    bundle, island = str(tmp_path / "files.bundle"), of_files.island(APPTAINER)
    site.does("bundle", "export", bundle, "--benchmark", "1")
    with of_files.away():
        assert ran(report_of(site, 2, "--no-cache")) == ALL_STEPS
        assert island.json("bundle", "import", bundle)["missing"] == []
        assert ran(report_of(island, 2)) == ALL_STEPS
    assert site.json("storage", "verify")["damaged"] == []
    site.does("storage", "share")
    newcomer = of_files.site(APPTAINER)
    newcomer.does("profile", "set", "shared_caches", f"[{site.home / 'cache'}]")
    newcomer.does("benchmark", "ls")
    with of_files.away():
        assert ran(report_of(newcomer, 2)) == ALL_STEPS
    (tmp_path / "bin").mkdir()
    site.environment |= {"PATH": path_without_apptainer(tmp_path / "bin"), "DOCKER_HOST": DOCKER}
    # Which no engine runs, and none is asked for what is remembered.
    assert ran(report_of(site, 2)) == []
    again = ("test", "run", "--benchmark", "1", "--model", "2", "--no-cache")
    assert "none of apptainer and singularity is on PATH" in site.run(*again).stderr
    site.does("profile", "set", "platform", "docker")
    assert "kind SingularityFile, which this machine cannot run" in site.run(*again).stderr
