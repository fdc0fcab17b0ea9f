"""`/healthz`, `/readyz` and `/metrics`: what watches the server hears how it is."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.api import Member
from tests.support.registry import Registry
from tests.support.services import postgres_cluster


def get(registry: Registry, path: str, **headers: str) -> requests.Response:
    """What the registry answers to somebody without a token of its members."""
    return requests.get(registry.url + path, headers=headers, timeout=60)


def figures(registry: Registry) -> dict[str, float]:
    """The figures by their names with labels."""
    lines = get(registry, "/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_a_registry_that_serves_is_alive_and_ready(served: Registry) -> None:
    assert get(served, "/healthz").json() == {"status": "ok"}
    ready = get(served, "/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.fixture
def uninitialised(tmp_path: Path) -> Any:
    """A client of a registry without tables, inside this process."""
    return Registry(tmp_path).app.test_client()


def test_a_database_without_tables_is_not_ready(uninitialised: Any) -> None:
    assert uninitialised.get("/healthz").status_code == 200
    answer = uninitialised.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["reasons"] == ["the database is not initialised: run medperf-server init"]


def test_a_store_that_is_no_folder_is_not_ready(tmp_path: Path) -> None:
    registry = Registry(tmp_path, MEDPERF_ASSETS=str(tmp_path / "assets"))
    registry.initialise()
    (tmp_path / "assets").write_text("in the way")
    registry.start()
    try:
        answer = get(registry, "/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == [
            "the store of files does not answer, or cannot be written to"
        ]
    finally:
        registry.stop()


def test_a_lost_database_is_told_without_secrets(tmp_path: Path) -> None:
    # Not under pytest's own folders: those are closed to the user that PostgreSQL runs as.
    with tempfile.TemporaryDirectory() as folder:
        with postgres_cluster(Path(folder)) as cluster:
            url = cluster.new_database().replace("registry@", "registry:hush@")
            registry = Registry(tmp_path, url)
            registry.initialise()
            registry.start()
            assert get(registry, "/readyz").status_code == 200
        try:
            assert get(registry, "/healthz").status_code == 200
            seen = get(registry, "/metrics")
            assert "medperf_database_up 0.0" in seen.text
            # What it said last is repeated for a moment.
            answer = get(registry, "/readyz")
            while answer.status_code == 200:
                answer = get(registry, "/readyz")
            assert answer.status_code == 503
            assert answer.json()["reasons"] == ["the database does not answer"]
            assert "hush" not in answer.text + seen.text
        finally:
            registry.stop()


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Registry]:
    """A registry whose figures nobody else moves."""
    yield from Registry.serving(tmp_path)


def test_requests_are_counted_by_method_route_and_status(counting: Registry) -> None:
    member = Member(counting, "ada")
    uid = member.container()["id"]
    for _ in range(3):
        member.get(f"/mlcubes/{uid}/")
    member.get("/mlcubes/999/")
    get(counting, "/nowhere")
    requests.request("INVENTED", f"{counting.url}/healthz", timeout=60)
    found = figures(counting)

    def count(method: str, route: str, status: int) -> float:
        name = "medperf_request_seconds_count"
        return found[f'{name}{{method="{method}",route="{route}",status="{status}"}}']

    (route,) = {
        match[1]
        for name in found
        if (match := re.search(r'_count.*route="([^"]*/mlcubes/<[^"/]*/)"', name))
    }
    assert count("GET", route, 200) == 3 and count("GET", route, 404) == 1
    assert count("POST", "/api/v0/mlcubes/", 201) == 1
    assert any('method="other"' in name for name in found)
    assert not any("nowhere" in name or "INVENTED" in name for name in found)


def test_what_there_is_and_what_waits_is_counted(counting: Registry) -> None:
    committee = Member(counting, "committee")
    committee.benchmark()
    found = figures(counting)
    assert found['medperf_entities{type="container"}'] == 1
    assert found['medperf_entities{type="benchmark"}'] == 1
    assert found['medperf_pending{type="benchmark"}'] == 1
    assert found['medperf_pending{type="association"}'] == 0
    assert found["medperf_database_up"] == 1
    assert found["medperf_database_connections"] >= 1


@pytest.fixture
def app(tmp_path: Path) -> Any:
    """The application, to be asked from other addresses."""
    registry = Registry(tmp_path)
    registry.initialise()
    return registry.app


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("203.0.113.7", {}, 403),
        # A proxy on this machine asks for somebody else.
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, 403),
    ],
)
def test_only_this_machine_reads_the_figures(
    app: Any, address: str, headers: dict[str, str], status: int
) -> None:
    client = app.test_client()
    answer = client.get("/metrics", headers=headers, environ_base={"REMOTE_ADDR": address})
    assert answer.status_code == status
    assert ("medperf_entities" in answer.text) == (status == 200)


@pytest.mark.parametrize(
    ("header", "status"), [("Bearer open", 200), ("Bearer opem", 401), ("", 401)]
)
def test_with_a_token_the_figures_are_for_whoever_has_it(
    app: Any, header: str, status: int
) -> None:
    app.config["METRICS_TOKEN"] = "open"
    for address in ("127.0.0.1", "203.0.113.7"):
        answer = app.test_client().get(
            "/metrics",
            headers={"Authorization": header, "X-Forwarded-For": "203.0.113.9"},
            environ_base={"REMOTE_ADDR": address},
        )
        assert answer.status_code == status
