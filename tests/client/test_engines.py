"""One image is the same image on every engine, whichever of its digests it was registered by."""

import itertools
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.consortium import Member
from tests.support.disks import status
from tests.support.docker_fixtures import containerd, engine, podman
from tests.support.engines import APPTAINER, DOCKER, Shared, numbers, sharing
from tests.support.keys import make_keys
from tests.support.reports import ALL_STEPS, CONFIG, change_a_weight, ran, report_of

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["containerd", "engine", "podman"]

ENGINES = ("docker", "containerd", "podman", "apptainer")
on_each = pytest.mark.parametrize("name", ENGINES)
between_two = pytest.mark.parametrize(
    ("here", "there"),
    [pytest.param(*pair, id="-to-".join(pair)) for pair in itertools.permutations(ENGINES, 2)],
)


class Sites:
    """On each engine a site that ran the benchmark and fetched it; made once somebody asks for it.

    Each left two bundles beside its home: of the benchmark, and a signed one of all it has.
    """

    def __init__(self, shared: Shared, request: pytest.FixtureRequest, folder: Path) -> None:
        self.shared, self._request = shared, request
        self._private, self.public = make_keys(folder / "site")
        # A model that nobody knows once one of its weights was changed.
        self.candidate = folder / "candidate"
        shutil.copytree(shared.consortium.host.folder / "model_mlp", self.candidate)
        self.fetched: dict[str, Any] = {}
        self.on = cache(self._made)

    def host(self, name: str) -> str:
        """The address of an engine; skips or fails by the rule of `require` without it."""
        if name == APPTAINER:
            return APPTAINER
        found = self._request.getfixturevalue("engine" if name == "docker" else name)
        return DOCKER if name == "docker" else str(found)

    def bundle(self, name: str, kind: str = "benchmark") -> str:
        """The file that a site exported."""
        home = self.on(name).home
        return str(home.with_name(f"{home.name}.{kind}"))

    def _made(self, name: str) -> Member:
        site = self.shared.site(self.host(name))
        report = report_of(site, 2)
        assert ran(report) == ALL_STEPS, name
        assert [step["image_id"] for step in report["steps"]] == self.shared.of_steps, name
        self.fetched[name] = site.json("benchmark", "fetch", "1")
        assert self.fetched[name]["ready"]
        beside = str(site.home)
        site.does("bundle", "export", f"{beside}.benchmark", "--benchmark", "1")
        site.does("bundle", "export", f"{beside}.all", "--sign", self._private)
        return site


@pytest.fixture(scope="module", params=["DockerImage", "DockerArchive"])
def sites(
    request: pytest.FixtureRequest,
    engine: "DockerClient",
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sites]:
    """Those of a consortium of images in a registry, then of images that are files at URLs."""
    with sharing(engine, tmp_path_factory.mktemp("engines"), request.param) as shared:
        yield Sites(shared, request, tmp_path_factory.mktemp("sites"))


@on_each
def test_a_benchmark_runs_on_any_engine_and_then_with_everything_away(
    sites: Sites, name: str
) -> None:
    site, shared = sites.on(name), sites.shared
    assert (site.json("profile", "view")["runs_on"] == APPTAINER) == (name == APPTAINER)
    shared.lose(sites.host(name))
    with shared.away():
        assert site.json("benchmark", "status", "1") == sites.fetched[name]
        assert ran(report_of(site, 2)) == []
        again = report_of(site, 2, "--no-cache")
        assert ran(again) == ALL_STEPS
        assert [step["image_id"] for step in again["steps"]] == shared.of_steps
    assert site.json("storage", "verify")["damaged"] == []


@between_two
def test_what_ran_on_one_engine_is_remembered_on_another(
    sites: Sites, here: str, there: str
) -> None:
    site, shared = sites.on(here), sites.shared
    change_a_weight(sites.candidate)
    try:
        shared.on(sites.host(there), site)
        assert ran(report_of(site, 2)) == []
        assert ran(report_of(site, sites.candidate)) == ["infer", "evaluate"]
    finally:
        shared.on(sites.host(here), site)
    assert ran(report_of(site, sites.candidate)) == []


@between_two
def test_a_bundle_takes_a_benchmark_from_one_engine_to_another(
    sites: Sites, here: str, there: str
) -> None:
    bundle, island = sites.bundle(here), sites.shared.island(sites.host(there))
    with sites.shared.away():
        assert island.json("bundle", "import", bundle)["missing"] == []
        assert island.json("benchmark", "status", "1")["ready"]
        report = report_of(island, 2)
        assert ran(report) == ALL_STEPS
        assert [step["image_id"] for step in report["steps"]] == sites.shared.of_steps


@between_two
def test_a_bundle_of_all_takes_along_what_ran(sites: Sites, here: str, there: str) -> None:
    bundle, island = sites.bundle(here, "all"), sites.shared.island(sites.host(there))
    with sites.shared.away():
        island.does("bundle", "import", bundle, "--require-signature", sites.public)
        assert ran(report_of(island, 2)) == []


@pytest.mark.parametrize(("keeper", "user"), [("docker", "apptainer"), ("apptainer", "docker")])
def test_a_shared_cache_has_the_images_for_either(sites: Sites, keeper: str, user: str) -> None:
    sites.on(keeper).does("storage", "share")
    cache = sites.on(keeper).home / "cache"
    newcomer, before = sites.shared.site(sites.host(user)), status(cache)
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


@on_each
def test_a_container_is_registered_by_the_same_digest_wherever_it_is_submitted(
    sites: Sites, name: str
) -> None:
    host, container = sites.shared.consortium.host, f"mlp-{next(numbers)}"
    # The registry has no container twice.
    parameters = host.folder / f"{container}.yaml"
    parameters.write_text(f"of: {container}\n")
    submitted = sites.on(name).json(
        *("container", "submit", "-y", "--name", container),
        *("-c", f"{host.url}model_mlp/{CONFIG}", "-p", f"{host.url}{parameters.name}"),
    )
    assert submitted["image_hash"] == sites.shared.pins["model_mlp"]
