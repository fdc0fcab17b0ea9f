"""Whatever answers in a registry's place, or does not: one line that helps, and no traceback."""

import gzip
import itertools
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import Catalog
from medperf_client.errors import MedPerfError, Offline, Refused, TryLater
from medperf_client.exchange.sync import pull
from medperf_client.kinds import USER
from medperf_client.registry.client import MOST_ANSWER_BYTES, Registry
from medperf_client.settings.config import Home
from tests.support.badhost import (
    DRIPS,
    OK,
    RESET,
    BadHost,
    answer,
    bad_host,
    black_hole,
    dripping,
    json_answer,
    plain_medperf,
)
from tests.support.consortium import Consortium, Member
from tests.support.sockets import SocketLog

TOKEN = "mpf_SECRET"
ME = {"id": 1, "email": "ada@example.org"}
PORTAL = answer("200 OK", b"<html>Accept our terms</html>", "Content-Type: text/html")
BENCHMARK = {
    **{"id": 1, "owner": 1, "name": "one", "state": "OPERATION", "approval_status": "APPROVED"},
    **{"description": "", "demo_dataset_tarball_url": "", "demo_dataset_tarball_hash": ""},
    **{"data_preparation_mlcube": 1, "reference_model_mlcube": 2, "data_evaluator_mlcube": 3},
}


def changes(*entities: tuple[str, Any], upto: int = 1, more: bool = False) -> bytes:
    """A page of the change log."""
    rows = [
        {"cursor": 1, "type": kind, "id": 1, "action": "created", "entity": entity}
        for kind, entity in entities
    ]
    return json_answer({"changes": rows, "next": upto, "more": more})


@pytest.fixture
def stranger(tmp_path: Path) -> Member:
    """Somebody with an empty home, whose registry a test chooses."""
    return Member(tmp_path / "home", "http://127.0.0.1:1", token=TOKEN)


@pytest.fixture
def settled(stranger: Member) -> Member:
    """Somebody who has a copy of a registry with one benchmark."""
    with bad_host(good_registry) as host:
        stranger.environment["MEDPERF_SERVER_URL"] = host.url
        assert [b["name"] for b in stranger.json("benchmark", "ls")] == ["one"]
    return stranger


def good_registry(path: str) -> bytes:
    """A registry of one benchmark."""
    if "/me/" in path:
        return json_answer(ME)
    return changes(("benchmark", BENCHMARK)) if "since=0" in path else changes()


def moves_to(member: Member, url: str) -> None:
    """The registry that a member has a copy of is found at another address from now on."""
    home = Home(member.home, member.home / "cache")
    home.registry(member.environment["MEDPERF_SERVER_URL"]).rename(home.registry(url))
    member.environment["MEDPERF_SERVER_URL"] = url


ODD_ANSWERS: dict[str, bytes | None] = {
    "a captive portal": PORTAL,
    "a page that is not there": answer("404 Not Found", b"<html>", "Content-Type: text/html"),
    "no entity there": json_answer({"detail": "Not found."}, "404 Not Found"),
    "a forbidding proxy": answer("403 Forbidden", b"<html>", "Content-Type: text/html"),
    "a server error": answer("500 Internal Server Error", b"oops"),
    "a bad gateway": answer("502 Bad Gateway", b"<html>"),
    "a redirect": answer("302 Found", b"", "Location: http://elsewhere.example/"),
    "a redirect to nowhere": answer("301 Moved", b"", "Location: http://["),
    "a redirect of odd bytes": answer("301 Moved", b"", "Location: http://\xff\xfe"),
    "nothing": answer("200 OK"),
    "no content": answer("204 No Content"),
    "garbage": b"\x00\xff\x00\xff garbage\r\n\r\n",
    "a cut answer": answer("200 OK", b'{"id": 1', "Content-Length: 5000"),
    "a cut header": b"HTTP/1.1 200 OK\r\nContent-",
    "bad chunks": answer("200 OK", b"zz\r\n", "Transfer-Encoding: chunked"),
    "no gzip": answer("200 OK", b"not gzip", "Content-Encoding: gzip"),
    "half a document": answer("200 OK", b'{"id": '),
    "deep JSON": answer("200 OK", b"[" * 200_000),
    "a number too long": answer("200 OK", b'{"id": ' + b"9" * 5000 + b"}"),
    "a number": json_answer(7),
    "a list": json_answer([1, 2]),
    "an empty object": json_answer({}),
    "an ID that is text": json_answer({"id": "1", "email": "x"}),
    "a reset": RESET,
    "a hang-up": b"",
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_an_odd_answer_counts_as_no_registry(name: str) -> None:
    with bad_host(lambda path: ODD_ANSWERS[name]) as host:
        registry = Registry(host.url, TOKEN)
        with pytest.raises(Offline) as caught:
            USER.checked(registry.get("/me/"))
        assert TOKEN not in str(caught.value) and caught.value.hint


WRONG_PAGES: dict[str, bytes] = {
    "no page": json_answer([]),
    "no changes": json_answer({"changes": None, "next": 2, "more": False}),
    "a change that is text": json_answer({"changes": ["x"], "next": 2, "more": False}),
    "a cursor that is text": json_answer({"changes": [], "next": "2", "more": False}),
    "an entity that is text": changes(("benchmark", "x"), upto=2),
    "an entity without a name": changes(("benchmark", {"id": 1}), upto=2),
    "a name that is a list": changes(("benchmark", {**BENCHMARK, "name": []}), upto=2),
    "a UID that is true": changes(("mlcube", {**BENCHMARK, "id": True}), upto=2),
    "a UID that no table holds": changes(("benchmark", {**BENCHMARK, "id": 2**63}), upto=2),
    "a UID below one": changes(("benchmark", {**BENCHMARK, "id": -1}), upto=2),
    "a reference that no table holds": changes(
        ("benchmark", {**BENCHMARK, "reference_model_mlcube": 10**4000}), upto=2
    ),
    "a cursor that no table holds": json_answer({"changes": [], "next": 2**63, "more": False}),
    "an unknown type without a UID": changes(("novelty", {}), upto=2),
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """The copy that one pull of a registry with one benchmark made."""
    catalog = Catalog(tmp_path / "catalog")
    with bad_host(good_registry) as host:
        pull(Registry(host.url, TOKEN), catalog)
    assert catalog.get("benchmark", 1) == BENCHMARK
    return catalog


@pytest.mark.parametrize("name", WRONG_PAGES)
def test_a_page_of_the_wrong_shape_leaves_the_copy_alone(catalog: Catalog, name: str) -> None:
    with bad_host(lambda path: WRONG_PAGES[name]) as host, pytest.raises(Offline):
        pull(Registry(host.url, TOKEN), catalog)
    assert catalog.all("benchmark") == [BENCHMARK] and catalog.cursor == 1


@pytest.mark.parametrize(("resets", "asked"), [(1, 2), (9, 2)])
def test_a_read_whose_connection_is_reset_is_sent_again_once(resets: int, asked: int) -> None:
    replies = [RESET] * resets + [json_answer({"id": 7})]
    with bad_host(lambda path: replies.pop(0)) as host:
        registry = Registry(host.url, "mpf_x")
        if resets < asked:
            assert registry.get("/me/") == {"id": 7}
        else:
            with pytest.raises(Offline, match="reset by peer"):
                registry.get("/me/")
        assert host.paths == ["/api/v0/me/"] * asked


def test_a_write_whose_connection_is_reset_is_not_sent_again_unasked() -> None:
    with bad_host(lambda path: RESET) as host:
        with pytest.raises(TryLater, match="reset by peer"):
            Registry(host.url, "mpf_x").post("/keys/", {}, "k")
        assert len(host.requests) == 1


@pytest.mark.parametrize("name", ["a captive portal", "a reset"])
@pytest.mark.parametrize("words", ["benchmark ls", "benchmark approve 1 -y", "auth login"])
def test_commands_end_with_one_line_that_helps(stranger: Member, name: str, words: str) -> None:
    with bad_host(lambda path: ODD_ANSWERS[name]) as host:
        stranger.environment["MEDPERF_SERVER_URL"] = host.url
        done = stranger.run(*words.split(), answers="mpf_other\n")
    if words == "auth login":
        assert done.returncode == 0 and "The token is kept unchecked in" in done.stderr
    elif "approve" in words:
        assert done.returncode == 0 and "Queued as q1." in done.stdout
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("Error: ")
        assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr + done.stdout and "mpf_other" not in done.stderr + done.stdout


def test_a_token_goes_to_its_registry_only(stranger: Member) -> None:
    with bad_host(lambda path: PORTAL) as other:
        redirect = answer("302 Found", b"", f"Location: {other.url}/api/v0/me/")
        with bad_host(lambda path: redirect) as host:
            stranger.environment["MEDPERF_SERVER_URL"] = host.url
            done = stranger.run("benchmark", "ls")
            assert f"Authorization: Bearer {TOKEN}" in host.requests[0]
            assert stranger.run(
                *("container", "submit", "--name", "x"),
                *("--container-config-file", f"{host.url}/moved.yaml"),
            ).returncode
            assert all(TOKEN not in request for request in host.requests[1:] + other.requests)
        assert other.requests
    assert done.returncode == 1 and other.url in done.stderr


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://nowhere.invalid", 1),
        # Nothing to wait for: these can be no URLs.
        ("http://a..b", 2),
        ("http://127.0.0.1:99999", 2),
        ("http://[", 2),
        ("http://x:y", 2),
    ],
)
def test_a_registry_s_url_that_leads_nowhere(stranger: Member, url: str, code: int) -> None:
    stranger.environment["MEDPERF_SERVER_URL"] = url
    done = stranger.run("benchmark", "ls")
    assert done.returncode == code and url in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("accepts", [True, False], ids=["silent", "dropping"])
def test_a_black_hole_costs_one_connect_timeout(settled: Member, accepts: bool) -> None:
    with black_hole(accepts) as hole:
        registry = Registry(hole.url, TOKEN, connect_timeout=3, read_timeout=60)
        began = time.monotonic()
        for path in ("/me/", "/changes/", "/benchmarks/"):
            with pytest.raises(Offline, match="no answer in time"):
                registry.get(path, hurried=True)
        # Three times would be 9 s.
        assert time.monotonic() - began < 8
        settled.does("profile", "set", "connect_timeout", "0.3")
        moves_to(settled, hole.url)
        done = settled.run("benchmark", "ls", "--mine")
    assert done.returncode == 0 and "one" in done.stdout
    assert done.stderr.count("offline: showing the copy of") == 1


@pytest.mark.parametrize(("accepts", "connections"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("command", ["sync", "benchmark approve 1 -y", "benchmark fetch 1"])
def test_a_black_hole_is_asked_once_and_not_once_an_entry(
    settled: Member, tmp_path: Path, command: str, accepts: bool, connections: int
) -> None:
    for model in ("1", "2", "3"):
        words = ("--benchmark", "1", "--model_uid", model, "-y", "--offline")
        settled.does("association", "approve", *words)
    settled.does("profile", "set", "connect_timeout", "0.3")
    settled.does("profile", "set", "read_timeout", "0.3")
    sockets = SocketLog(settled, tmp_path / "sockets")
    with black_hole(accepts) as hole:
        moves_to(settled, hole.url)
        done = settled.run(*command.split())
    # One to see whether somebody takes it, one to ask whoever did.
    assert sockets.taken().count("socket.connect") == connections
    assert "no answer in time" in done.stderr and "Traceback" not in done.stderr
    assert {entry["state"] for entry in settled.json("queue", "ls")} == {"queued"}


@pytest.mark.parametrize("name", DRIPS)
def test_a_registry_that_drips_counts_as_away(name: str) -> None:
    with dripping(*DRIPS[name]) as url:
        began = time.monotonic()
        with pytest.raises(Offline, match="no answer in time"):
            Registry(url, TOKEN, connect_timeout=0.4).get("/me/", hurried=True)
        assert time.monotonic() - began < 30
        began = time.monotonic()
        with pytest.raises(TryLater, match="no answer in time"):
            Registry(url, TOKEN, answer_timeout=0.4).post("/mlcubes/", {}, "a-key")
        assert time.monotonic() - began < 30
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


@pytest.mark.parametrize("by_proxy", [False, True], ids=["handshake", "proxy"])
def test_what_drips_before_tls_counts_as_away(
    monkeypatch: pytest.MonkeyPatch, by_proxy: bool
) -> None:
    # The head of a large record of a handshake, or an answer to CONNECT.
    drip = DRIPS["a header"] if by_proxy else (b"\x16\x03\x03\x40\x00", b"\0")
    with dripping(*drip) as url:
        monkeypatch.setenv("HTTPS_PROXY", url if by_proxy else "")
        away = "https://registry.invalid" if by_proxy else url.replace("http:", "https:")
        began = time.monotonic()
        with pytest.raises(Offline):
            Registry(away, TOKEN, connect_timeout=0.4).get("/me/", hurried=True)
        assert time.monotonic() - began < 30


ENDLESS = {
    "a body": (OK + b"\r\n", b" " * (1 << 20)),
    "a compressed body": (
        OK + b"Content-Encoding: gzip\r\n\r\n",
        gzip.compress(b" " * (32 << 20)),
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_answer_is_refused_and_not_kept(name: str) -> None:
    with dripping(*ENDLESS[name], gap=0) as url:
        tracemalloc.start()
        with pytest.raises(Offline, match="sent more than 33554432 bytes"):
            Registry(url, TOKEN).get("/me/")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 * MOST_ANSWER_BYTES


def test_the_endless_body_of_a_redirect_is_left_alone() -> None:
    start = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"
    with dripping(start, b" " * (1 << 20), gap=0) as url, pytest.raises(Offline, match="points to"):
        Registry(url, TOKEN).get("/me/")


def test_an_answer_that_is_coded_over_and_over_is_refused() -> None:
    body = gzip.compress(gzip.compress(gzip.compress(b"{}")))
    reply = answer("200 OK", body, "Content-Encoding: gzip, gzip, gzip")
    with bad_host(lambda _: reply) as host, pytest.raises(Offline, match="coded more than once"):
        Registry(host.url, TOKEN).get("/me/")


ODD_URLS = ["http://[::1", "http://[", "http://h:99999999/", "http://\u2100.example/", "http://"]
ODD_URLS += ["http://x/\0", "http://x/\ud800", "file:///etc/passwd", "x" * 5000, ""]


@pytest.mark.parametrize("url", ODD_URLS, ids=lambda url: repr(url[:30]))
def test_a_url_that_another_member_registered_ends_nothing_in_a_traceback(
    stranger: Member, url: str
) -> None:
    urls = ("git_mlcube_url", "git_parameters_url", "additional_files_tarball_url")
    hashes = ("mlcube_hash", "parameters_hash", "additional_files_tarball_hash")
    container = {
        **{**BENCHMARK, "is_valid": True, "image_hash": "\ud800", "image_tarball_hash": ""},
        **dict.fromkeys((*urls, "image_tarball_url"), url),
        **dict.fromkeys(hashes, "0" * 64),
    }
    entities = [("mlcube", {**container, "id": uid}) for uid in (1, 2, 3)]
    page = changes(*entities, ("benchmark", {**BENCHMARK, "demo_dataset_tarball_url": url}))

    def respond(path: str) -> bytes:
        if "/changes/" in path:
            return page if "since=0" in path else changes()
        return json_answer(ME) if path.endswith("/me/") else json_answer({"results": []})

    with bad_host(respond) as host:
        stranger.environment["MEDPERF_SERVER_URL"] = host.url
        for words in ("benchmark ls", "container ls", "container view 2", "benchmark view 1"):
            assert stranger.run(*words.split()).returncode == 0
        for words in ("benchmark fetch 1", "benchmark status 1", "test run -b 1 -m 2"):
            done = stranger.run(*words.split())
            assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["a header", "a body"])
def test_a_list_is_shown_from_the_copy_while_a_registry_drips(settled: Member, name: str) -> None:
    with dripping(*DRIPS[name]) as url:
        moves_to(settled, url)
        began = time.monotonic()
        done = settled.run("benchmark", "ls")
        # Four times the profile's connect_timeout, the start of Python included.
        assert time.monotonic() - began < 8
    assert done.returncode == 0 and "one" in done.stdout
    assert "offline: showing the copy of" in done.stderr and "no answer in time" in done.stderr


def test_a_list_is_shown_from_the_copy_while_page_follows_page(settled: Member) -> None:
    cursors = itertools.count(10**9)

    def respond(path: str) -> bytes:
        return changes(("benchmark", BENCHMARK), upto=next(cursors), more=True)

    settled.does("profile", "set", "connect_timeout", "0.3")
    with bad_host(respond) as host:
        moves_to(settled, host.url)
        began = time.monotonic()
        done = settled.run("benchmark", "ls")
        assert time.monotonic() - began < 8
    assert done.returncode == 0 and "one" in done.stdout
    assert "showing the copy of" in done.stderr and "medperf sync" in done.stderr


@pytest.mark.parametrize(
    "words",
    ["benchmark view 1", "benchmark fetch 1", "benchmark approve 1 -y", "container ls", "sync"]
    + ["association ls", "association reject -b 1 -m 2 -y", "test run -b 1 -m 2", "auth login"],
)
def test_every_command_ends_while_a_registry_drips(settled: Member, words: str) -> None:
    for setting in ("connect_timeout", "answer_timeout"):
        settled.does("profile", "set", setting, "0.3")
    with dripping(*DRIPS["a body"]) as url:
        moves_to(settled, url)
        began = time.monotonic()
        done = settled.run(*words.split(), answers="mpf_other\n")
        assert time.monotonic() - began < 20
    assert "no answer in time" in done.stderr and "Traceback" not in done.stderr


def test_refusals_are_the_registry_s_own_words() -> None:
    refusals = {
        "/api/v0/mlcubes/": json_answer(
            {"name": ["is taken", "is rude"], "non_field_errors": ["no"]}, "400 Bad Request"
        ),
        "/api/v0/me/": json_answer({"detail": "Invalid token."}, "401 Unauthorized"),
        "/api/v0/list/": json_answer(["odd"], "400 Bad Request"),
    }
    with bad_host(lambda path: refusals[path]) as host:
        registry = Registry(host.url, TOKEN)
        with pytest.raises(Refused, match=r"\(400\): name: is taken; is rude\. no"):
            registry.post("/mlcubes/", {}, "key")
        with pytest.raises(Refused, match=r"\(401\): Invalid token") as caught:
            registry.get("/me/")
        assert caught.value.hint == "Log in with: medperf auth login"
        with pytest.raises(Refused, match="400"):
            registry.get("/list/")


def test_a_lost_answer_to_a_write_is_worth_another_try(stranger: Member) -> None:
    with bad_host(lambda path: RESET) as host:
        registry = Registry(host.url, TOKEN)
        with pytest.raises(TryLater):
            registry.post("/mlcubes/", {"name": "x"}, "a-key")
        assert len(host.requests) == 1 and "Idempotency-Key: a-key" in host.requests[0]


def test_words_of_a_registry_cannot_steer_the_terminal(stranger: Member) -> None:
    rude = json_answer({"detail": "\x1b[2J\x9bmno\u202e"}, "401 Unauthorized")
    with bad_host(lambda path: rude) as host:
        stranger.environment["MEDPERF_SERVER_URL"] = host.url
        done = stranger.run("benchmark", "ls")
    assert done.returncode == 1 and "no" in done.stderr
    assert all(char.isprintable() or char == "\n" for char in done.stderr)


@pytest.fixture
def plain(consortium: Consortium) -> Iterator[tuple[Member, BadHost]]:
    """The committee at a plain MedPerf server that shows the consortium's registry."""
    token = consortium.registry.token_for("committee@example.org")
    with plain_medperf(consortium.registry.port, token) as host:
        member = consortium.member("committee", home="committee-at-plain")
        member.environment["MEDPERF_SERVER_URL"] = host.url
        yield member, host


def test_a_plain_medperf_server_is_listed(
    consortium: Consortium, plain: tuple[Member, BadHost]
) -> None:
    member, host = plain
    ours = consortium.member("committee", home="committee-at-ours")
    assert member.json("benchmark", "ls") == ours.json("benchmark", "ls")
    assert member.json("container", "ls", "--mine") == ours.json("container", "ls", "--mine")
    theirs = member.json("association", "ls", "-bm")
    pairs = [(a["model_mlcube"], a["benchmark"], a["approval_status"]) for a in theirs]
    expected = ours.json("association", "ls", "-bm")
    # Listed newest or oldest first: what counts is that all are there.
    assert sorted(pairs) == sorted(
        (a["model_mlcube"], a["benchmark"], a["approval_status"]) for a in expected
    )
    ranking = member.run("benchmark", "ranking", "1")
    assert ranking.returncode == 1 and "ranks no models of benchmark 1" in ranking.stderr
    assert "medperf benchmark results 1" in ranking.stderr
    host.close()
    offline = member.run("benchmark", "view", "1")
    assert offline.returncode == 0 and "breast-cancer" in offline.stdout


def test_errors_are_for_people() -> None:
    with pytest.raises(MedPerfError) as caught:
        Registry("http://127.0.0.1:1", None, offline=True).get("/me/")
    assert "working offline, as asked" in str(caught.value)
    assert "MEDPERF_OFFLINE" in caught.value.hint
