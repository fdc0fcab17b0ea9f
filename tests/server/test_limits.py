"""Rate limits and failed sign-ins: a flood is turned away, and never takes its neighbours along."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
from scripts.ports import own_port

from tests.support.api import Member
from tests.support.registry import Registry
from tests.support.services import require

Serve = Callable[..., Registry]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a registry with settings: `serve(MEDPERF_RATE_LIMIT="3/hour")`."""
    with ExitStack() as stack:

        def start(folder: str = "registry", **settings: str) -> Registry:
            serving = contextmanager(Registry.serving)
            return stack.enter_context(serving(tmp_path / folder, **settings))

        yield start


def session_of(registry: Registry, name: str) -> requests.Session:
    """What asks with a member's token; unlike `Member`, it has asked nothing yet."""
    session = requests.Session()
    session.trust_env = False
    token = registry.token_for(f"{name}@example.org")
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def asked(
    session: requests.Session, registry: Registry, times: int = 1, **headers: str
) -> list[int]:
    """The status codes of so many requests for the caller."""
    url = f"{registry.url}/api/v0/me/"
    return [session.get(url, headers=headers, timeout=60).status_code for _ in range(times)]


def with_token(registry: Registry, token: str | None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return requests.get(f"{registry.url}/api/v0/me/", headers=headers, timeout=60)


def test_a_token_has_a_limit_of_its_own(serve: Serve) -> None:
    registry = serve(MEDPERF_RATE_LIMIT="3/hour")
    ada, grace = session_of(registry, "ada"), session_of(registry, "grace")
    assert asked(ada, registry, 3) == [200] * 3
    refused = ada.get(f"{registry.url}/api/v0/me/", timeout=60)
    assert refused.status_code == 429
    assert refused.json() == {"detail": "At most 3 per 1 hour for each token"}
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert ada.post(f"{registry.url}/api/v0/mlcubes/", json={}, timeout=60).status_code == 429
    assert asked(grace, registry, 3) == [200] * 3


def test_refusals_of_a_token_that_may_only_read_are_counted_too(serve: Serve) -> None:
    from medperf_server.auth import issue_token
    from medperf_server.base import db

    registry = serve(MEDPERF_RATE_LIMIT="3/hour")
    ada = Member(registry, "ada")
    with registry.app.app_context():
        _, token = issue_token(ada.uid, scope="read")
        db.session.commit()
    ada.session.headers["Authorization"] = f"Bearer {token}"
    assert [ada.post("/mlcubes/", {}).status_code for _ in range(4)] == [403, 403, 403, 429]


def test_after_the_time_that_it_was_told_a_client_goes_on(serve: Serve) -> None:
    registry = serve(MEDPERF_RATE_LIMIT="2/second")
    ada = session_of(registry, "ada")
    for _ in range(100):
        answer = ada.get(f"{registry.url}/api/v0/me/", timeout=60)
        if answer.status_code == 429:
            break
    assert answer.headers["Retry-After"] == "1"
    time.sleep(1)
    assert asked(ada, registry) == [200]


def test_who_has_no_token_is_counted_by_address(serve: Serve) -> None:
    registry = serve(MEDPERF_RATE_LIMIT="3/hour")
    url = f"{registry.url}/api/v0/version"
    assert [requests.get(url, timeout=60).status_code for _ in range(5)] == [200] * 3 + [429] * 2
    # The members behind the same address do not suffer for it.
    assert asked(session_of(registry, "ada"), registry, 3) == [200] * 3


def test_many_tokens_of_one_address_have_a_limit_together(serve: Serve) -> None:
    registry = serve(MEDPERF_RATE_LIMIT="2/hour")
    answers = [asked(session_of(registry, f"m{number}"), registry, 2) for number in range(11)]
    assert answers == [[200, 200]] * 10 + [[429, 429]]


def test_who_goes_on_failing_to_sign_in_waits_ever_longer(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="3/hour")
    assert [with_token(registry, f"mpf_{n}").status_code for n in range(3)] == [401] * 3
    waits = []
    for number in range(11):
        answer = with_token(registry, f"mpf_again_{number}")
        assert answer.status_code == 429 and "failed attempts" in answer.json()["detail"]
        waits.append(int(answer.headers["Retry-After"]))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_flood_of_wrong_tokens_never_locks_out_a_good_one(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="2/hour", MEDPERF_RATE_LIMIT="20/hour")
    ada = session_of(registry, "ada")
    for number in range(10):
        with_token(registry, f"mpf_{number}")
        assert asked(ada, registry) == [200]
    # Somebody who was never seen before gets in as well.
    assert asked(session_of(registry, "grace"), registry) == [200]


def test_no_token_at_all_is_no_failed_sign_in(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="1/hour")
    assert [with_token(registry, None).status_code for _ in range(4)] == [401] * 4


def test_an_address_that_a_client_makes_up_is_not_believed(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="2/hour")
    statuses = [
        requests.get(
            f"{registry.url}/api/v0/me/",
            headers={"Authorization": f"Bearer mpf_{n}", "X-Forwarded-For": f"203.0.113.{n}"},
            timeout=60,
        ).status_code
        for n in range(4)
    ]
    assert statuses == [401, 401, 429, 429]


def test_behind_a_trusted_proxy_its_word_counts_and_nobody_elses(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="1/hour", MEDPERF_TRUSTED_PROXIES="1")

    def status(forwarded: str) -> int:
        headers = {"Authorization": "Bearer mpf_wrong", "X-Forwarded-For": forwarded}
        url = f"{registry.url}/api/v0/me/"
        return requests.get(url, headers=headers, timeout=60).status_code

    assert [status("203.0.113.1"), status("203.0.113.2")] == [401, 401]
    assert status("203.0.113.1") == 429
    # What stands before the proxy's own entry came from the client.
    assert status("198.51.100.7, 203.0.113.2") == 429


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
        (None, ""),
    ],
)
def test_a_network_that_one_host_may_own_is_one_address(remote: str | None, counted: str) -> None:
    from flask import Flask

    from medperf_server.limits import address

    with Flask(__name__).test_request_context(environ_base={"REMOTE_ADDR": remote}):
        assert address() == counted


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("MEDPERF_RATE_LIMIT", "often"),
        ("MEDPERF_RATE_LIMIT", "0/minute"),
        ("MEDPERF_FAILED_SIGN_INS", "3"),
        ("MEDPERF_RATE_LIMIT_STORAGE", "carrier-pigeon://"),
        ("MEDPERF_TRUSTED_PROXIES", "all"),
        ("MEDPERF_TRUSTED_PROXIES", "-1"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    from medperf_server.app import create_app

    monkeypatch.setenv(setting, value)
    with pytest.raises(ValueError, match=setting):
        create_app(f"sqlite:///{tmp_path / 'registry.db'}")


@pytest.fixture
def redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis of the test's own: its URL, and the process to end it."""
    program = shutil.which("redis-server")
    require("redis", program is not None, "redis-server is not installed")
    port = own_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert any(b"Ready to accept connections" in line for line in process.stdout)
        yield f"redis://127.0.0.1:{port}", process
        process.kill()


def test_several_workers_count_together_in_a_redis(
    serve: Serve, redis: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, process = redis
    settings = {"MEDPERF_RATE_LIMIT": "4/hour", "MEDPERF_RATE_LIMIT_STORAGE": url}
    first = serve(**settings)
    second = Registry(first.folder / "second", first.database_url, **settings)
    second.start()
    try:
        ada = session_of(first, "ada")
        assert asked(ada, first, 2) + asked(ada, second, 2) == [200] * 4
        assert asked(ada, first) + asked(ada, second) == [429, 429]
        # Its loss must not be the registry's.
        process.kill()
        process.wait(timeout=30)
        assert asked(ada, first, 5) + asked(ada, second) == [200] * 6
    finally:
        second.stop()
    lines = [json.loads(line)["message"] for line in first.log.read_text().splitlines()]
    assert lines.count("rate limits cannot be counted") == 1


def signing_in(registry: Registry, token: str) -> requests.Response:
    """The answer to the form on the sign-in page."""
    url = f"{registry.url}/sign-in"
    return requests.post(url, {"token": token}, timeout=60, allow_redirects=False)


def test_the_sign_in_page_tells_who_fails_too_often_to_wait(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="2/hour")
    answers = [signing_in(registry, f"mpf_{number}") for number in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
    assert [answer.headers.get("Retry-After") for answer in answers[2:]] == ["1", "2"]
    assert "wait before you try again" in answers[3].text
    # Wrong tokens of the API are counted with them: the address is the same.
    assert with_token(registry, "mpf_wrong").headers["Retry-After"] == "4"


def test_a_flood_locks_nobody_out_of_the_pages(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="1/hour")
    token = registry.token_for("ada@example.org")
    for number in range(5):
        signing_in(registry, f"mpf_{number}")
    assert signing_in(registry, token).status_code == 303
    # Nor does a cookie that has expired since.
    stale = {"medperf_session": "mps_expired"}
    form, url = {"token": token}, f"{registry.url}/sign-in"
    assert requests.get(url, cookies=stale, timeout=60).status_code == 200
    answer = requests.post(url, form, cookies=stale, timeout=60, allow_redirects=False)
    assert answer.status_code == 303
    assert requests.get(registry.url, cookies=answer.cookies, timeout=60).status_code == 200


def test_invitations_cannot_be_tried_out(serve: Serve) -> None:
    registry = serve(MEDPERF_FAILED_SIGN_INS="2/hour")
    url = f"{registry.url}/invitations/mpi_"
    statuses = [requests.get(f"{url}{number}", timeout=60).status_code for number in range(4)]
    assert statuses == [404, 404, 429, 429]


def test_what_watches_the_server_is_always_answered(serve: Serve) -> None:
    registry = serve(MEDPERF_RATE_LIMIT="1/hour")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert [requests.get(registry.url + path, timeout=60).status_code for _ in range(3)] == [
            200
        ] * 3


def test_a_clock_that_is_put_back_makes_no_window_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    from medperf_server import limits

    memory, real = limits.WorkerMemory(), limits.time.time
    assert memory.incr("a", 60) == 1
    for hours in (-48, 48, -1):
        monkeypatch.setattr(limits.time, "time", lambda hours=hours: real() + 3600 * hours)
        assert memory.incr("a", 60) > 1
        assert 50 < memory.get_expiry("a") - limits.time.time() <= 60
