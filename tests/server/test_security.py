"""What answers tell a browser, and that the registry opens no connection for anybody."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.api import Member, benchmark_body, container_body, created
from tests.support.forks import IMPORT_ROOTS, ROOT
from tests.support.registry import Registry

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ON_PAGES = {
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def answers_of(member: Member) -> dict[str, requests.Response]:
    """An answer of every kind that the API has."""
    return {
        "one": member.get("/me/"),
        "list": member.get("/mlcubes/"),
        "open": requests.get(f"{member.registry.url}/api/v0/version", timeout=60),
        "created": member.post("/mlcubes/", container_body()),
        "wrong": member.post("/mlcubes/", {}),
        "no JSON": member.ask("POST", "/mlcubes/", data=b"{"),
        "no token": requests.get(f"{member.registry.url}/api/v0/me/", timeout=60),
        "forbidden": member.get("/users/"),
        "not there": member.get("/mlcubes/999999999/"),
        "no path": member.get("/nothing/"),
        "no method": member.ask("PATCH", "/me/"),
        "too large": member.ask("POST", "/mlcubes/", data=b"x" * 3_000_000),
        "options": member.ask("OPTIONS", "/mlcubes/"),
        "head": member.ask("HEAD", "/mlcubes/"),
        "unchanged": member.get("/me/", **{"If-None-Match": member.get("/me/").headers["ETag"]}),
    }


def test_every_answer_of_the_api_is_guarded(model_owner: Member) -> None:
    answers = answers_of(model_owner)
    assert {answer.status_code for answer in answers.values()} == {
        *(200, 201, 304, 400, 401, 403, 404, 405, 413)
    }
    for kind, answer in answers.items():
        for name, value in EVERYWHERE.items():
            assert answer.headers.get(name) == value, (kind, name)
        assert answer.headers["Content-Security-Policy"] == API_POLICY, kind
        assert answer.headers["Cache-Control"] == "private, no-cache", kind
        assert "Strict-Transport-Security" not in answer.headers, kind
        assert "Access-Control-Allow-Origin" not in answer.headers, kind


def test_a_failure_tells_nothing_of_the_inside(served: Registry, stranger: Member) -> None:
    answer = stranger.get("/mlcubes/?owner=x")
    server = answer.headers.get("Server", "")
    for word in ("Traceback", "sqlalchemy", str(served.folder)):
        assert word not in answer.text + server


def test_an_answer_may_be_kept_but_is_always_asked_for_again(model_owner: Member) -> None:
    first = model_owner.get("/me/")
    again = model_owner.get("/me/", **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.one_engine
@pytest.mark.parametrize("path", ["/api/v0/docs", "/api/v0/docs/", "/", "/nothing"])
def test_a_page_runs_and_loads_only_what_the_registry_serves(served: Registry, path: str) -> None:
    answer = requests.get(served.url + path, timeout=60)
    policy = answer.headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives == PAGE_POLICY
    for name, value in {**EVERYWHERE, **ON_PAGES}.items():
        assert answer.headers[name] == value


def test_the_documentation_has_no_inline_style_or_script(served: Registry) -> None:
    page = requests.get(f"{served.url}/api/v0/docs", timeout=60).text
    assert "<style" not in page and "style=" not in page and "<script" not in page


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Registry]:
    """A registry behind a reverse proxy that does TLS."""
    yield from Registry.serving(tmp_path / "registry", MEDPERF_TRUSTED_PROXIES="1")


def test_behind_tls_a_browser_is_told_to_stay_there(proxied: Registry, served: Registry) -> None:
    secure = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    headers = requests.get(f"{proxied.url}/api/v0/version", headers=secure, timeout=60).headers
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    # Where no proxy is trusted, anybody could have written this.
    headers = requests.get(f"{served.url}/api/v0/version", headers=secure, timeout=60).headers
    assert "Strict-Transport-Security" not in headers


def test_links_lead_where_the_proxy_was_asked_and_not_where_a_client_says(
    proxied: Registry,
) -> None:
    ada = Member(proxied, "ada")
    for _ in range(2):
        ada.container()
    forwarded = {
        "Host": "registry.example.org",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example.org",
        "X-Forwarded-Prefix": "/evil",
    }
    page = ada.get("/me/mlcubes/?limit=1", **forwarded).json()
    assert page["next"].startswith("https://registry.example.org/api/v0/me/mlcubes/?")


def test_the_log_names_the_client_and_not_the_proxy(proxied: Registry) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "through-the-proxy"}
    requests.get(f"{proxied.url}/api/v0/version", headers=headers, timeout=60)
    (line,) = (line for line in proxied.log.read_text().splitlines() if "through-the-proxy" in line)
    assert json.loads(line)["address"] == "203.0.113.9"


# Python runs this first in the server's process: it writes down, and refuses, every connection
# that Python code opens and every program that it starts.
GUARD = """
import os, sys

WAYS_OUT = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
            "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")

def refuse(event, arguments):
    if event in WAYS_OUT:
        with open(os.environ["GUARD_LOG"], "a") as log:
            log.write(f"{event} {arguments!r}\\n")
        if event == "socket.connect":
            raise OSError("no way out")

sys.addaudithook(refuse)
"""


@pytest.fixture
def guard(tmp_path: Path) -> dict[str, str]:
    """Environment of a Python process that cannot connect to anything, and says what it tried."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    path = os.pathsep.join([str(tmp_path / "guard"), *IMPORT_ROOTS])
    return {"PYTHONPATH": path, "GUARD_LOG": str(tmp_path / "guard.log")}


@pytest.fixture
def inside() -> Iterator[socket.socket]:
    """A service inside the hospital, which only the registry's machine could reach."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def is_untouched(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def test_the_guard_stops_a_process_that_fetches_a_url(
    guard: dict[str, str], inside: socket.socket
) -> None:
    code = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{inside.getsockname()[1]}/')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **guard},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0 and "no way out" in done.stderr
    assert "socket.connect" in Path(guard["GUARD_LOG"]).read_text()
    assert is_untouched(inside)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_the_registry_fetches_no_url_that_a_member_gives(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    guard: dict[str, str],
    inside: socket.socket,
    engine: str,
) -> None:
    url = f"http://127.0.0.1:{inside.getsockname()[1]}/latest/meta-data/"
    is_sqlite = engine == "sqlite"
    database = None if is_sqlite else request.getfixturevalue("postgres").new_database()
    for registry in Registry.serving(tmp_path / "registry", database, **guard):
        log = Path(guard["GUARD_LOG"])
        before = log.read_text() if log.exists() else ""
        submit_everywhere(registry, url)
        assert (log.read_text() if log.exists() else "") == before
    assert is_untouched(inside)


def submit_everywhere(registry: Registry, url: str) -> None:
    """Give the URL wherever the registry takes one, and look at all that it then shows."""
    urls: dict[str, Any] = {
        "git_mlcube_url": url,
        "git_parameters_url": url,
        "additional_files_tarball_url": url,
        "metadata": {"url": url},
        "user_metadata": {"url": url, "list": [url]},
    }
    hashes = {"parameters_hash": "b", "additional_files_tarball_hash": "c"}
    owner, committee = (Member(registry, name) for name in ("ada", "bob"))
    admin = Member(registry, "admin", admin=True)
    for name, value in {"Referer": url, "Origin": url, "X-Forwarded-Host": url[7:]}.items():
        owner.session.headers[name] = committee.session.headers[name] = value
    image = created(
        owner.post(
            "/mlcubes/",
            container_body(**urls, **hashes, image_tarball_url=url, image_hash="")
            | {"image_tarball_hash": "a"},
        )
    )
    assert owner.put(f"/mlcubes/{image['id']}/", {"git_mlcube_url": url + "2"}).ok
    benchmark = created(
        committee.post(
            "/benchmarks/",
            benchmark_body(
                committee, docs_url=url, demo_dataset_tarball_url=url, metadata={"url": url}
            ),
        )
    )
    path = f"/benchmarks/{benchmark['id']}/"
    assert committee.put(path, {"demo_dataset_tarball_url": url + "2"}).ok
    assert admin.put(path, {"approval_status": "APPROVED"}).ok
    association = {
        "model_mlcube": image["id"],
        "benchmark": benchmark["id"],
        "metadata": {"test_result": {"url": url}},
    }
    created(owner.post("/mlcubes/benchmarks/", association))
    pair = f"/mlcubes/{image['id']}/benchmarks/{benchmark['id']}/"
    assert admin.put(pair, {"approval_status": "APPROVED", "reason": url}).ok
    for shown in ("/mlcubes/", "/benchmarks/", path, pair, "/changes/", "/audit/"):
        assert url in admin.get(shown).text


def test_no_secret_comes_from_a_generator_that_can_be_predicted() -> None:
    files = list((ROOT / "server").rglob("*.py"))
    assert any("import secrets" in file.read_text() for file in files)
    for file in files:
        assert not re.search(r"^\s*(import|from) random\b", file.read_text(), re.MULTILINE), file


def test_an_admin_does_not_remove_themselves(served: Registry) -> None:
    admin = Member(served, "admin", admin=True)
    answer = admin.delete(f"/users/{admin.uid}/")
    assert answer.status_code == 400 and "yourself" in answer.json()["non_field_errors"][0]
    assert admin.get("/users/").status_code == 200


def test_the_log_holds_no_invitation(served: Registry) -> None:
    secret = "inv_this-must-not-be-logged"
    requests.get(f"{served.url}/invitations/{secret}", timeout=60)
    log = served.log.read_text()
    assert secret not in log and "/invitations/..." in log


MODEL = (ROOT / "docs" / "threat-model.md").read_text()
THREATS = [
    line.strip("|").split("|")
    for line in MODEL.partition("## Threats")[2].partition("\n## What is not")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| Threat | By")
]


def test_the_threat_model_has_threats() -> None:
    assert len(THREATS) > 60 and {len(threat) for threat in THREATS} == {4}


@pytest.mark.parametrize("threat", THREATS, ids=[threat[0].strip() for threat in THREATS])
def test_every_threat_is_tried_by_tests_that_exist(threat: list[str]) -> None:
    tests = re.findall(r"`([\w/.]+)::(\w+)`", threat[3])
    assert tests
    for path, name in tests:
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_the_threat_model_names_every_setting_that_guards() -> None:
    from medperf_server import config

    shown = dict(re.findall(r"\| `(MEDPERF_\w+)` \| `([^`]+)` \|", MODEL))
    assert shown == {
        "MEDPERF_RATE_LIMIT": config.RATE_LIMIT,
        "MEDPERF_FAILED_SIGN_INS": config.FAILED_SIGN_INS,
        "MEDPERF_RATE_LIMIT_STORAGE": "memory://",
        "MEDPERF_TRUSTED_PROXIES": "0",
    }
