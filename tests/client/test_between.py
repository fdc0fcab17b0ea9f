"""What stands between a site and its hosts: proxies, certificates, names; each is named."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from medperf_cache import Storage
from medperf_client.errors import MedPerfError, Offline, Refused, TryLater
from medperf_client.registry.client import Registry
from medperf_client.transfer.fetcher import Fetcher
from medperf_client.transfer.verdicts import PROXY_HINT, TLS_HINT
from tests.support.badhost import RESET, answer, bad_host, dripping
from tests.support.consortium import Member
from tests.support.tls import Authority, tls_host

CONTENT = b"weights " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
# Nobody looks these names up: the proxy would.
BEYOND, BEYOND_TLS = "http://files.example.org/weights", "https://files.example.org/weights"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authority of whoever runs the tests."""
    for name in (*VARIABLES, "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty cache."""
    return Storage(tmp_path / "cache")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that only whoever names its file trusts."""
    return Authority(tmp_path)


@pytest.fixture
def closed() -> Iterator[str]:
    """The address of nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    yield address


def trouble_of(storage: Storage, url: str) -> MedPerfError:
    """What fetching a URL raises."""
    with pytest.raises(MedPerfError) as caught:
        Fetcher(storage, timeouts=(2, 2), first_wait_seconds=0).fetch(url)
    assert url in str(caught.value) and caught.value.hint
    assert list(storage.items()) == []
    return caught.value


@pytest.mark.parametrize("url", [BEYOND, BEYOND_TLS])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("403 Forbidden", Refused),
        ("407 Proxy Authentication Required", Refused),
        ("502 Bad Gateway", TryLater),
        ("504 Gateway Timeout", TryLater),
    ],
)
def test_a_proxy_that_refuses_is_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, url: str, status: str, kind: type
) -> None:
    with bad_host(lambda _: answer(status, b"<h1>Blocked</h1>")) as proxy:
        address = proxy.url.removeprefix("http://")
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://user:secret@{address}")
        error = trouble_of(storage, url)
    assert type(error) is kind, error
    assert f"the proxy http://{address}" in str(error) and status.split(" ")[0] in str(error)
    assert "secret" not in str(error) + error.hint
    if url == BEYOND_TLS or status.startswith("407"):
        assert error.hint == PROXY_HINT


@pytest.mark.parametrize("url", [BEYOND, BEYOND_TLS])
def test_a_proxy_that_is_away_is_named_and_waited_for(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, url: str, closed: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        # As many write it: without a scheme.
        monkeypatch.setenv(name, closed)
    error = trouble_of(storage, url)
    assert isinstance(error, Offline)
    assert f"the proxy http://{closed}: Connection refused" in str(error)
    with pytest.raises(Offline, match=f"cannot be reached: the proxy http://{closed}: "):
        Registry("http://registry.example.org", None).get("/me/")


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Login Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses_a_registry_is_named(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    with bad_host(lambda _: answer(status, b"<h1>Blocked</h1>")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        for scheme in ("http", "https"):
            with pytest.raises(Offline, match=f"the proxy {proxy.url}") as caught:
                Registry(f"{scheme}://registry.example.org", None).get("/me/")
            assert status.split(" ")[0] in str(caught.value)


def test_a_host_that_needs_no_proxy_is_asked_without(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{closed}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.example.org")
    with bad_host(lambda _: answer("200 OK", CONTENT)) as host:
        assert Fetcher(storage).fetch(f"{host.url}/weights") == DIGEST
        assert host.requests[0].startswith("GET /weights ")


def test_a_proxy_s_own_authority_is_trusted_where_it_is_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    with tls_host(authority.certificate(), CONTENT) as url:
        error = trouble_of(storage, f"{url}/weights")
        assert type(error) is Refused and "its certificate is not trusted: " in str(error)
        assert error.hint == TLS_HINT and "REQUESTS_CA_BUNDLE" in error.hint
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
        assert Fetcher(storage).fetch(f"{url}/weights") == DIGEST


def test_a_registry_behind_an_authority_of_its_own_says_how_it_is_trusted(
    tmp_path: Path, authority: Authority
) -> None:
    with tls_host(authority.certificate(), b'{"version": "0.0.0"}') as url:
        with pytest.raises(Offline, match="its certificate is not trusted") as caught:
            Registry(url, None).hear()
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint
        member = Member(tmp_path / "home", url, token="mpf_x")
        for name in (*VARIABLES, "REQUESTS_CA_BUNDLE"):
            member.environment.pop(name, None)
        done = member.run("auth", "login", answers="mpf_x\n")
        assert "kept unchecked" in done.stderr and "REQUESTS_CA_BUNDLE" in done.stderr


def test_who_fails_is_named_where_a_url_leads_to_others(storage: Storage, closed: str) -> None:
    def respond(path: str) -> bytes:
        return answer("302 Found", b"", f"Location: http://{closed}/weights")

    with bad_host(respond) as host:
        error = trouble_of(storage, f"{host.url}/weights")
        assert f"{closed}, where it leads: Connection refused" in str(error)
        with bad_host(lambda _: answer("403 Forbidden")) as other:
            closed = other.url.removeprefix("http://")
            error = trouble_of(storage, f"{host.url}/others")
    assert f"{closed}, where it leads answered 403 Forbidden" in str(error)


@pytest.mark.parametrize(
    ("name", "began_days_ago", "said"),
    [
        (x509.DNSName("other.example.org"), 1, "certificate is not valid for '127.0.0.1'"),
        (x509.DNSName("127.0.0.1"), 1, "certificate is not valid for '127.0.0.1'"),
        (None, 9, "certificate has expired"),
        (None, -9, "certificate is not yet valid"),
    ],
    ids=["of another", "of an address as a name", "expired", "not yet"],
)
def test_a_certificate_that_waiting_does_not_mend_is_refused_at_once(
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    name: x509.GeneralName | None,
    began_days_ago: int,
    said: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    options = {"began_days_ago": began_days_ago} | ({"name": name} if name else {})
    with tls_host(authority.certificate(**options), CONTENT) as url:  # type: ignore[arg-type]
        error = trouble_of(storage, f"{url}/weights")
    assert type(error) is Refused and said in str(error) and "clock" in error.hint


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"]
)
def test_a_host_that_speaks_no_tls_is_refused_at_once(storage: Storage, greeting: bytes) -> None:
    with dripping(greeting, b"", gap=60) as url:
        error = trouble_of(storage, url.replace("http", "https") + "/weights")
    assert type(error) is Refused and "TLS failed: " in str(error) and error.hint == TLS_HINT


def test_a_host_that_resets_is_waited_for(storage: Storage) -> None:
    with bad_host(lambda _: RESET) as host:
        assert isinstance(trouble_of(storage, f"{host.url}/weights"), Offline)


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_s_file_that_is_none_is_named(
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    tmp_path: Path,
    content: bytes | None,
) -> None:
    file = tmp_path / "none.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    with tls_host(authority.certificate(), CONTENT) as url:
        error = trouble_of(storage, f"{url}/weights")
    assert type(error) is Refused and "REQUESTS_CA_BUNDLE" in error.hint, error


def test_a_name_that_nobody_knows_today_is_waited_for(storage: Storage) -> None:
    error = trouble_of(storage, "http://no-such-host.invalid/weights")
    assert isinstance(error, Offline) and not isinstance(error, TryLater)
