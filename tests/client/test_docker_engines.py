"""One image is the same image on every engine, whichever of its digests it was registered by."""

import itertools
from pathlib import Path

import pytest

from tests.support.docker_fixtures import containerd, engine, podman
from tests.support.engines import DOCKER, Shared, numbers, shared
from tests.support.keys import make_keys
from tests.support.reports import ALL_STEPS, CONFIG, ran, report_of

__all__ = ["containerd", "engine", "podman", "shared"]

ENGINES = ("docker", "containerd", "podman")


@pytest.fixture(params=ENGINES)
def host(request: pytest.FixtureRequest) -> str:
    """The address of each engine, one after the other."""
    return _host(request, request.param)


@pytest.fixture(params=itertools.permutations(ENGINES, 2), ids="-to-".join)
def two_hosts(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The addresses of two engines."""
    return _host(request, request.param[0]), _host(request, request.param[1])


def _host(request: pytest.FixtureRequest, name: str) -> str:
    if name == "docker":
        request.getfixturevalue("engine")
        return DOCKER
    return str(request.getfixturevalue(name))


def test_a_benchmark_runs_on_any_engine_and_then_with_everything_away(
    shared: Shared, host: str
) -> None:
    site = shared.site(host)
    report = report_of(site, 2)
    assert ran(report) == ALL_STEPS
    assert [step["image_id"] for step in report["steps"]] == shared.of_steps

    fetched = site.json("benchmark", "fetch", "1")
    assert fetched["ready"]
    shared.lose(host)
    with shared.away():
        assert site.json("benchmark", "status", "1") == fetched
        assert ran(report_of(site, 2)) == []
        again = report_of(site, 2, "--no-cache")
        assert ran(again) == ALL_STEPS
        assert [step["image_id"] for step in again["steps"]] == shared.of_steps
    assert site.json("storage", "verify")["damaged"] == []


def test_what_ran_on_one_engine_is_remembered_on_another(
    shared: Shared, two_hosts: tuple[str, str], tmp_path: Path
) -> None:
    site = shared.site(two_hosts[0])
    assert ran(report_of(site, 2)) == ALL_STEPS
    site.environment["DOCKER_HOST"] = two_hosts[1]
    shared.lose(two_hosts[1])
    assert ran(report_of(site, 2)) == []
    candidate = shared.consortium.host.folder / "model_mlp"
    assert ran(report_of(site, candidate)) == ["infer", "evaluate"]
    site.environment["DOCKER_HOST"] = two_hosts[0]
    assert ran(report_of(site, candidate)) == []

    private, public = make_keys(tmp_path / "site")
    site.does("bundle", "export", str(tmp_path / "all.bundle"), "--sign", private)
    island = shared.island(two_hosts[1])
    with shared.away():
        island.does("bundle", "import", str(tmp_path / "all.bundle"), "--require-signature", public)
        assert ran(report_of(island, 2)) == []


def test_a_bundle_takes_a_benchmark_from_one_engine_to_another(
    shared: Shared, two_hosts: tuple[str, str], tmp_path: Path
) -> None:
    site, file = shared.site(two_hosts[0]), str(tmp_path / "benchmark.bundle")
    site.json("benchmark", "fetch", "1")
    site.does("bundle", "export", file, "--benchmark", "1")
    island = shared.island(two_hosts[1])
    with shared.away():
        assert island.json("bundle", "import", file)["missing"] == []
        assert island.json("benchmark", "status", "1")["ready"]
        report = report_of(island, 2)
        assert ran(report) == ALL_STEPS
        assert [step["image_id"] for step in report["steps"]] == shared.of_steps


def test_a_container_is_registered_by_the_same_digest_wherever_it_is_submitted(
    shared: Shared, host: str
) -> None:
    site, name = shared.site(host), f"mlp-{next(numbers)}"
    # The registry has no container twice.
    parameters = shared.consortium.host.folder / f"{name}.yaml"
    parameters.write_text(f"of: {name}\n")
    submitted = site.json(
        *("container", "submit", "-y", "--name", name),
        *("-c", f"{shared.consortium.host.url}model_mlp/{CONFIG}"),
        *("-p", f"{shared.consortium.host.url}{parameters.name}"),
    )
    assert submitted["image_hash"] == shared.pins["model_mlp"]
