"""A benchmark on Apptainer: the same images, results and bundles as on engines, and none needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.apptainer import path_without_apptainer
from tests.support.consortium import Member
from tests.support.disks import status
from tests.support.docker_fixtures import containerd, engine, podman
from tests.support.engines import APPTAINER, DOCKER, SIF, Shared, shared, sharing
from tests.support.reports import ALL_STEPS, CONFIG, ran, report_of

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["containerd", "engine", "podman", "shared"]

ENGINES = ("docker", "containerd", "podman")


@dataclass
class Sites:
    """A site for each engine and one on Apptainer, which all ran the benchmark and fetched it.

    Each left a bundle of it beside its home.
    """

    shared: Shared
    hosts: dict[str, str]
    members: dict[str, Member]

    def bundle(self, name: str) -> str:
        """The file that a site exported."""
        home = self.members[name].home
        return str(home.with_name(f"{home.name}.bundle"))


@pytest.fixture(scope="module")
def sites(shared: Shared, engine: "DockerClient", containerd: str, podman: str) -> Iterator[Sites]:
    """What each of them made."""
    hosts = {"docker": DOCKER, "containerd": containerd, "podman": podman, "apptainer": APPTAINER}
    made = Sites(shared, hosts, {name: shared.site(host) for name, host in hosts.items()})
    for name, site in made.members.items():
        report = report_of(site, 2)
        assert ran(report) == ALL_STEPS, name
        assert [step["image_id"] for step in report["steps"]] == shared.of_steps, name
        assert site.json("benchmark", "fetch", "1")["ready"]
        site.does("bundle", "export", made.bundle(name), "--benchmark", "1")
    yield made


def test_a_benchmark_runs_with_everything_away(sites: Sites) -> None:
    site, images = sites.members["apptainer"], sites.shared.of_steps
    assert site.json("profile", "view")["runs_on"] == "apptainer"
    ready = site.json("benchmark", "status", "1")
    with sites.shared.away():
        assert site.json("benchmark", "status", "1") == ready
        assert ran(report_of(site, 2)) == []
        again = report_of(site, 2, "--no-cache")
        assert ran(again) == ALL_STEPS
        assert [step["image_id"] for step in again["steps"]] == images
    assert site.json("storage", "verify")["damaged"] == []


@pytest.mark.parametrize("name", ENGINES)
def test_what_ran_on_one_is_remembered_on_the_other(sites: Sites, name: str) -> None:
    here, there = sites.members["apptainer"], sites.members[name]
    try:
        assert ran(report_of(sites.shared.on(sites.hosts[name], here), 2)) == []
        assert ran(report_of(sites.shared.on(APPTAINER, there), 2)) == []
    finally:
        sites.shared.on(APPTAINER, here)
        sites.shared.on(sites.hosts[name], there)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("way", ["from", "to"])
def test_a_bundle_takes_a_benchmark_from_one_to_the_other(
    sites: Sites, name: str, way: str
) -> None:
    start, end = (name, "apptainer") if way == "from" else ("apptainer", name)
    island = sites.shared.island(sites.hosts[end])
    with sites.shared.away():
        assert island.json("bundle", "import", sites.bundle(start))["missing"] == []
        assert island.json("benchmark", "status", "1")["ready"]
        report = report_of(island, 2)
        assert ran(report) == ALL_STEPS
        assert [step["image_id"] for step in report["steps"]] == sites.shared.of_steps


@pytest.mark.parametrize(("keeper", "user"), [("docker", "apptainer"), ("apptainer", "docker")])
def test_a_shared_cache_has_the_images_for_either(sites: Sites, keeper: str, user: str) -> None:
    sites.members[keeper].does("storage", "share")
    cache = sites.members[keeper].home / "cache"
    newcomer, before = sites.shared.site(sites.hosts[user]), status(cache)
    newcomer.does("profile", "set", "shared_caches", f"[{cache}]")
    newcomer.does("benchmark", "ls")
    with sites.shared.away():
        assert newcomer.json("benchmark", "status", "1")["ready"]
        report = report_of(newcomer, 2)
        assert ran(report) == ALL_STEPS
        assert [step["image_id"] for step in report["steps"]] == sites.shared.of_steps
        assert ran(report_of(newcomer, 2)) == []
    assert status(cache) == before
    # Of its own it has no files but what its steps made; images it has only converted.
    made = {digest for step in report["steps"] for digest in step["outputs"].values()}
    own = {path.name for path in (newcomer.home / "cache").glob("blobs/??/*")}
    assert own and own <= made


def test_a_container_is_registered_as_on_an_engine(sites: Sites) -> None:
    url = sites.shared.consortium.host.url
    parameters = sites.shared.consortium.host.folder / "apptainer.yaml"
    parameters.write_text("of: apptainer\n")
    submitted = sites.members["apptainer"].json(
        *("container", "submit", "-y", "--name", "on-apptainer"),
        *("-c", f"{url}model_mlp/{CONFIG}", "-p", f"{url}{parameters.name}"),
    )
    assert submitted["image_hash"] == sites.shared.pins["model_mlp"]


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
