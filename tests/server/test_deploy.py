"""What `deploy/` sets up is what the registry reads, and serves."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from scripts.ports import own_port

from tests.support.api import Member
from tests.support.forks import ROOT
from tests.support.registry import Registry
from tests.support.services import PostgresCluster

DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"MEDPERF_[A-Z0-9_]*[A-Z0-9]")


def variables(text: str) -> set[str]:
    """The environment variables of ours that a text names."""
    return set(VARIABLE.findall(text))


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The environment variables that the registry, or what serves it, reads."""
    sources = [*(ROOT / "server").rglob("*.py"), DEPLOY / "gunicorn.conf.py", DEPLOY / "Caddyfile"]
    return set().union(*(variables(path.read_text()) for path in sources))


@pytest.mark.parametrize("name", ["compose.yaml", "Dockerfile", "systemd/medperf-registry.service"])
def test_every_variable_that_is_set_is_read(name: str, known: set[str]) -> None:
    named = variables((DEPLOY / name).read_text())
    assert named and named <= known


def test_the_guide_names_every_setting_and_no_other(known: set[str]) -> None:
    guide = variables((ROOT / "docs" / "running-a-registry.md").read_text())
    client = {"MEDPERF_SERVER_URL", "MEDPERF_TOKEN"}
    assert known - guide == set() and guide - known <= client


def test_compose_lets_only_the_proxy_be_reached() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert services["registry"]["environment"]["MEDPERF_TRUSTED_PROXIES"] == "1"
    assert services["database"]["networks"] == ["inside"]
    for volume in services["proxy"]["volumes"]:
        source = volume.partition(":")[0]
        assert not source.startswith(".") or (DEPLOY / source).exists()


def test_compose_sends_mail_where_that_is_asked_for_with_the_settings_of_the_registry() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    registry, notify = services["registry"], services["notify"]
    assert [name for name, service in services.items() if "profiles" in service] == ["notify"]
    assert notify["command"] == ["medperf-server", "notify"]
    assert notify["environment"] == registry["environment"]
    assert {"MEDPERF_SMTP_URL", "MEDPERF_MAIL_FROM", "MEDPERF_URL"} <= notify["environment"].keys()


def test_the_image_gets_what_it_copies() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "\nUSER 10001" in dockerfile and "HEALTHCHECK" in dockerfile
    for needed in ("setup.py", "cache", "client", "server", "deploy/gunicorn.conf.py"):
        assert f"!{needed}" in allowed and (ROOT / needed).exists()


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").iterdir()), ids=lambda p: p.name)
def test_units_are_sound(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    programs = re.findall(r"^Exec\w+=(/opt/\S+)", text, re.MULTILINE)
    # The verifier wants programs to be there.
    for program in programs:
        text = text.replace(program, "/bin/true")
    copy = tmp_path / unit.name
    copy.write_text(text)
    if unit.suffix == ".timer":
        service = unit.with_suffix(".service")
        (tmp_path / service.name).write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


def test_the_nightly_backup_replaces_that_of_a_week_ago(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.initialise()
    text = (DEPLOY / "systemd" / "medperf-backup.service").read_text().replace("%%", "%")
    text = text.replace("/var/lib/medperf", str(tmp_path))
    server = f"{sys.executable} -m medperf_server.cli"
    lines = re.findall(r"^Exec\w+=(.+)", text, re.MULTILINE)
    assert len(lines) == 3
    for night in ("the first", "a week later"):
        for line in lines:
            command = line.replace("/opt/medperf/bin/medperf-server", server)
            done = subprocess.run(
                shlex.split(command), env=registry.environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{night}: {done.stderr}"
        (backup,) = tmp_path.glob("backup*")
        assert backup.suffix == ".tar" and backup.stat().st_size > 0


def settings(name: str, folder: Path) -> dict[str, str]:
    """What a file of `deploy/` sets for the registry, which is to keep its files in a folder."""
    text = (DEPLOY / name).read_text().replace("/var/lib/medperf", str(folder))
    found = re.findall(r"^(?:Environment=|ENV +| +)([A-Z_]+)=(\S+)", text, re.MULTILINE)
    assert found
    return {name: value for name, value in found if name != "PATH"}


@pytest.fixture(params=["Dockerfile", "systemd/medperf-registry.service"])
def deployed(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresCluster
) -> Iterator[Registry]:
    """A registry on PostgreSQL, begun and served with what a file of `deploy/` sets."""
    registry = Registry(tmp_path, postgres.new_database())
    registry.port = own_port()
    (tmp_path / "tmp").mkdir()
    environment = {
        **registry.environment,
        **settings(request.param, tmp_path),
        "MEDPERF_BIND": f"127.0.0.1:{registry.port}",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    subprocess.run(
        [sys.executable, "-m", "medperf_server.cli", "init"],
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    command = [sys.executable, "-m", "gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py")]
    with (tmp_path / "gunicorn.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "medperf_server.wsgi:app"],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    yield registry
    process.terminate()
    process.wait(timeout=60)
    assert not list((tmp_path / "tmp").iterdir())


def ready(registry: Registry) -> requests.Response:
    """The answer of `/readyz`, once somebody listens."""
    for _ in range(600):
        try:
            return requests.get(f"{registry.url}/readyz", timeout=10)
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError((registry.folder / "gunicorn.log").read_text())


def test_gunicorn_serves_it_and_counts_for_all_workers(deployed: Registry) -> None:
    answer = ready(deployed)
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    member = Member(deployed, "ada")
    for _ in range(20):
        member.session.close()
        member.container()
    figures = requests.get(f"{deployed.url}/metrics", timeout=10).text
    assert 'medperf_entities{type="container"} 20.0' in figures
    counted = re.search(r'_count\{.*method="POST".*route="/api/v0/mlcubes/".*\} (\S+)', figures)
    assert counted is not None and float(counted[1]) == 20
