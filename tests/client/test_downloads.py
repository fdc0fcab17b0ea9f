"""Files come into the cache whole and verified, or not at all, whatever their host does."""

import errno
import gzip
import hashlib
import io
import os
import resource
import socket
import subprocess
import sys
import tarfile
import threading
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import Storage
from medperf_cache.partials import Partials
from medperf_client.errors import (
    InvalidContainer,
    MedPerfError,
    Offline,
    Refused,
    UsageError,
    WrongHash,
)
from medperf_client.execution.compatibility import read_yaml
from medperf_client.transfer import downloads
from medperf_client.transfer.bounds import Bounds
from medperf_client.transfer.fetcher import Fetcher
from tests.support.badhost import CHUNKED, DRIPS, OK, RESET, answer, bad_host, black_hole, dripping
from tests.support.consortium import Consortium, Member
from tests.support.proxy import Fault, proxy
from tests.support.rangehost import range_host

CONTENT = b"weights " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty cache."""
    return Storage(tmp_path / "cache")


def hurried(storage: Storage) -> Fetcher:
    """A fetcher that tries again without waiting."""
    return Fetcher(storage, first_wait_seconds=0)


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/a", answer("200 OK", CONTENT)),
        ("/a", answer("200 OK", CONTENT, "Content-Length: odd")),
        ("/a", b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT),
        ("/a", answer("200 OK", CONTENT, "Content-Length: " + "9" * 5000)),
        (
            "/a",
            answer(
                "200 OK", b"1f40\r\n" + CONTENT + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"
            ),
        ),
        ("/a.yaml", answer("200 OK", gzip.compress(CONTENT), "Content-Encoding: gzip")),
    ],
    ids=["plain", "odd length", "until closed", "endless length", "chunked", "compressed unasked"],
)
def test_a_file_arrives_as_its_host_has_it(storage: Storage, path: str, reply: bytes) -> None:
    with bad_host(lambda _: reply) as host:
        assert Fetcher(storage).fetch(host.url + path) == DIGEST
        assert "Accept-Encoding: identity" in host.requests[0]
    assert storage.blobs.path(DIGEST).read_bytes() == CONTENT


def test_an_archive_stays_compressed_though_its_host_calls_that_an_encoding(
    storage: Storage,
) -> None:
    archive = gzip.compress(CONTENT)
    with bad_host(lambda _: answer("200 OK", archive, "Content-Encoding: x-gzip")) as host:
        found = Fetcher(storage).fetch(f"{host.url}/weights.tar.gz?version=1")
    assert storage.blobs.path(found).read_bytes() == archive


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
@pytest.mark.parametrize("path", ["/weights", "/weights.tar.gz"])
@pytest.mark.parametrize("form", ["stored", "decoded"])
def test_of_a_coded_answer_the_form_that_has_the_hash_is_the_file(
    storage: Storage, coding: str, path: str, form: str
) -> None:
    stored = gzip.compress(CONTENT)
    meant = stored if form == "stored" else CONTENT
    digest = hashlib.sha256(meant).hexdigest()
    with bad_host(lambda _: answer("200 OK", stored, f"Content-Encoding: {coding}")) as host:
        assert Fetcher(storage).fetch(host.url + path, digest) == digest
        assert len(host.requests) == 1
    assert storage.blobs.path(digest).read_bytes() == meant
    assert list(Partials(storage.root, storage.blobs).items()) == []


def test_a_coded_answer_of_which_no_form_has_the_hash_is_refused(storage: Storage) -> None:
    stored = gzip.compress(CONTENT)
    with (
        bad_host(lambda _: answer("200 OK", stored, "Content-Encoding: gzip")) as host,
        pytest.raises(WrongHash, match=DIGEST),
    ):
        Fetcher(storage).fetch(f"{host.url}/weights", "0" * 64)
    assert list(storage.items()) == []


def test_a_file_that_is_stored_in_another_coding_is_the_file_where_its_hash_is_known(
    storage: Storage,
) -> None:
    with bad_host(lambda _: answer("200 OK", CONTENT, "Content-Encoding: br")) as host:
        assert Fetcher(storage).fetch(f"{host.url}/weights", DIGEST) == DIGEST
        with pytest.raises(WrongHash, match=DIGEST):
            Fetcher(storage).fetch(f"{host.url}/wrong", "0" * 64)
        with pytest.raises(Refused, match="codes it as 'br'"):
            Fetcher(storage).fetch(f"{host.url}/other")


def test_a_coded_file_that_was_cut_goes_on_where_it_was(storage: Storage) -> None:
    stored = gzip.compress(os.urandom(200_000))
    digest = hashlib.sha256(stored).hexdigest()
    coded = ("Content-Encoding: gzip", 'ETag: "1"')
    replies = [
        answer("200 OK", stored[:150_000], f"Content-Length: {len(stored)}", *coded),
        answer(
            "206 Partial Content",
            stored[150_000:],
            f"Content-Range: bytes 150000-{len(stored) - 1}/{len(stored)}",
            *coded,
        ),
    ]
    with bad_host(lambda _: replies[len(host.requests) - 1]) as host:
        assert hurried(storage).fetch(f"{host.url}/weights", digest) == digest
    assert "Range: bytes=150000-" in host.requests[1]


def test_redirects_are_followed(storage: Storage) -> None:
    replies = {
        "/old": answer("302 Found", b"", "Location: /new"),
        "/new": answer("200 OK", CONTENT),
        "/round": answer("302 Found", b"", "Location: /round"),
    }
    with bad_host(lambda path: replies[path]) as host:
        assert Fetcher(storage).fetch(f"{host.url}/old", DIGEST) == DIGEST
        with pytest.raises(Refused, match="Exceeded 30 redirects"):
            Fetcher(storage).fetch(f"{host.url}/round")


def test_a_host_that_never_answers_is_asked_once_and_not_for_every_file(storage: Storage) -> None:
    with bad_host(lambda _: answer("200 OK", CONTENT)) as fine, black_hole(accepts=True) as hole:
        mirrors = {f"{fine.url}/": [f"{hole.url}/"]}
        fetcher = Fetcher(storage, timeouts=(0.3, 0.3), mirrors=mirrors)
        for path in ("/a", "/b", "/c"):
            assert fetcher.fetch(fine.url + path) == DIGEST
            with pytest.raises(Offline, match="no answer in time"):
                fetcher.fetch(hole.url + path)
        assert hole.connections() == 1


def test_a_host_that_answered_once_is_asked_again(storage: Storage) -> None:
    enough = threading.Event()

    def respond(path: str) -> bytes:
        if path == "/slow":
            enough.wait(60)
        return answer("200 OK", CONTENT)

    with bad_host(respond) as host:
        fetcher = Fetcher(storage, timeouts=(0.3, 0.3))
        fetcher.fetch(f"{host.url}/a")
        with pytest.raises(Offline, match="no answer in time"):
            fetcher.fetch(f"{host.url}/slow")
        enough.set()
        assert fetcher.fetch(f"{host.url}/b") == DIGEST


@pytest.mark.parametrize("name", DRIPS)
def test_a_host_that_drips_counts_as_away_for_all_its_files(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(downloads, "PACE_SECONDS", 0.4)
    fetcher = Fetcher(storage, timeouts=(0.2, 0.2), first_wait_seconds=0)
    met: list[Any] = []
    with dripping(*DRIPS[name], met=met) as url:
        for path in ("/a", "/b", "/c"):
            with pytest.raises(Offline, match="no answer in time|less than 1000 bytes a second"):
                fetcher.fetch(url + path)
        assert len(met) == 1
    left = [one.name for one in threading.enumerate() if "_watch" in one.name]
    assert left == [] and list(storage.items()) == []


def test_what_a_host_sent_before_it_dripped_is_kept(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PACE_SECONDS", 0.4)
    start = OK + b"Content-Length: 9999999\r\n\r\n" + CONTENT * 30
    with dripping(start, b"x") as url, pytest.raises(Offline, match="profile's download_speed"):
        Fetcher(storage, timeouts=(0.2, 0.2), first_wait_seconds=0).fetch(f"{url}/a")
    [left] = Partials(storage.root, storage.blobs).items()
    assert left.kind == "partial" and left.size_bytes >= len(CONTENT) * 30


def test_a_host_that_is_just_slow_is_waited_for(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(downloads, "PACE_SECONDS", 0.3)
    (tmp_path / "hosted").mkdir()
    (tmp_path / "hosted" / "a").write_bytes(CONTENT * 30)
    with range_host(tmp_path / "hosted") as real, proxy(real, lambda _: Fault(gap=0.2)) as slow:
        # It takes more than twice as long as its speed is looked at.
        found = Fetcher(storage, timeouts=(1, 0.3)).fetch(f"{slow.url}/a")
    assert storage.blobs.path(found).stat().st_size == len(CONTENT) * 30


BLOCK = b"x" * (1 << 16)
TOO_LARGE = {
    "announced": (OK + b"Content-Length: 1000001\r\n\r\n", b"x"),
    "chunked": (CHUNKED, b"10000\r\n" + BLOCK + b"\r\n"),
    "until closed": (OK + b"\r\n", BLOCK),
    "compressed": (OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(BLOCK * 160)),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_file_without_an_end_is_refused_by_the_setting_and_leaves_nothing(
    storage: Storage, name: str
) -> None:
    fetcher = Fetcher(storage, bounds=Bounds(most_bytes=1_000_000))
    with (
        dripping(*TOO_LARGE[name], gap=0) as url,
        pytest.raises(Refused, match="larger than the 1000000 bytes") as caught,
    ):
        fetcher.fetch(f"{url}/weights")
    assert "raise the profile's download_bytes" in caught.value.hint
    assert list(Partials(storage.root, storage.blobs).items()) == list(storage.items()) == []


def test_a_profile_s_bound_on_files_holds(newcomer: Member, consortium: Consortium) -> None:
    newcomer.does("profile", "set", "download_bytes", "100")
    done = newcomer.run("benchmark", "fetch", "1")
    assert done.returncode == 1 and "larger than the 100 bytes that a file may have" in done.stderr


def test_a_file_of_unknown_size_leaves_some_room_on_the_disk(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: Path) -> Any:
        used = sum(file.stat().st_size for file in Path(path).iterdir())
        return types.SimpleNamespace(total=50 << 20, free=(8 << 20) - used)

    monkeypatch.setattr("medperf_cache.partials.shutil.disk_usage", usage)
    with (
        dripping(OK + b"\r\n", BLOCK, gap=0) as url,
        pytest.raises(OSError, match="No space to spare") as caught,
    ):
        Fetcher(storage).fetch(f"{url}/weights")
    assert caught.value.errno == errno.ENOSPC
    assert list(Partials(storage.root, storage.blobs).items()) == []


def test_the_endless_body_of_a_redirect_is_left_alone(storage: Storage) -> None:
    with bad_host(lambda _: answer("200 OK", CONTENT)) as target:
        start = f"HTTP/1.1 302 Found\r\nLocation: {target.url}/a\r\n\r\n".encode()
        with dripping(start, BLOCK, gap=0) as url:
            assert Fetcher(storage).fetch(f"{url}/a") == DIGEST


FAILURES: dict[str, tuple[bytes | None, type[MedPerfError], str]] = {
    "not there": (answer("404 Not Found"), Refused, "answered 404 Not Found"),
    "forbidden": (answer("403 Forbidden"), Refused, "answered 403 Forbidden"),
    "too many": (answer("429 Too Many Requests"), Offline, "answered 429"),
    "broken": (answer("500 Oops", b"<html>"), Offline, "answered 500 Oops"),
    "in preparation": (answer("202 Accepted", b"soon"), Offline, "answered 202"),
    "portal": (answer("511 Network Authentication Required"), Offline, "answered 511"),
    "not able": (answer("501 Not Implemented"), Refused, "answered 501"),
    "no content": (answer("204 No Content"), Refused, "answered 204"),
    "not modified": (answer("304 Not Modified"), Refused, "answered 304"),
    "a redirect to nothing": (answer("302 Found"), Refused, "answered 302"),
    "a part unasked": (answer("206 Partial Content", CONTENT), Refused, "answered 206"),
    "cut": (answer("200 OK", CONTENT, "Content-Length: 9000"), Offline, "8000"),
    "cut in a chunk": (
        answer("200 OK", b"ffff\r\n" + CONTENT, "Transfer-Encoding: chunked"),
        Offline,
        "cannot be fetched",
    ),
    "cut while compressed": (
        answer(
            "200 OK", gzip.compress(CONTENT)[:20], "Content-Encoding: gzip", "Content-Length: 99"
        ),
        Offline,
        "cannot be fetched",
    ),
    "cut while compressed, of no length": (
        b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(CONTENT)[:20],
        Offline,
        "ended too early",
    ),
    "half a gzip, whole": (
        answer("200 OK", gzip.compress(CONTENT)[:20], "Content-Encoding: gzip"),
        Refused,
        "calls it 'gzip', and that it is not",
    ),
    "no gzip": (
        answer("200 OK", CONTENT, "Content-Encoding: gzip"),
        Refused,
        "calls it 'gzip', and that it is not",
    ),
    "a redirect to no URL": (answer("302 Found", b"", "Location: http://["), Refused, "fetched"),
    "a redirect to no host": (
        answer("302 Found", b"", "Location: http://a..b/"),
        Refused,
        "a..b",
    ),
    "coded thrice": (
        answer("200 OK", gzip.compress(CONTENT), "Content-Encoding: gzip, gzip, gzip"),
        Refused,
        "codes it as 'gzip, gzip, gzip'",
    ),
    "a redirect to no port": (
        answer("302 Found", b"", "Location: http://h:99999/"),
        Refused,
        "Port",
    ),
    "a redirect to a file": (answer("302 Found", b"", "Location: file:///etc/x"), Refused, "file"),
    "reset": (RESET, Offline, "Connection reset"),
    "hung up": (b"", Offline, "cannot be fetched"),
    "no HTTP": (b"\x00\xff garbage\r\n\r\n", Offline, "cannot be fetched"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_download_says_why_and_leaves_nothing(storage: Storage, name: str) -> None:
    reply, expected, said = FAILURES[name]
    with bad_host(lambda _: reply) as host, pytest.raises(expected) as caught:
        hurried(storage).fetch(f"{host.url}/weights")
    assert said in str(caught.value) and host.url in str(caught.value) and caught.value.hint
    assert list(storage.items()) == [] and list(storage.verify()) == []


def test_a_wrong_hash_names_both_and_keeps_what_came_apart(storage: Storage) -> None:
    with bad_host(lambda _: answer("200 OK", CONTENT)) as host:
        with pytest.raises(WrongHash) as caught:
            Fetcher(storage).fetch(f"{host.url}/weights", "0" * 64)
        assert "0" * 64 in str(caught.value) and DIGEST in str(caught.value)
        assert len(host.requests) == 1
        assert Fetcher(storage).remembered(f"{host.url}/weights") is None
    rejected = storage.root / "rejected" / DIGEST
    assert str(rejected) in str(caught.value) and rejected.read_bytes() == CONTENT
    assert list(storage.items()) == [] and DIGEST not in storage.blobs


def test_what_is_here_is_not_asked_for_again(storage: Storage) -> None:
    with bad_host(lambda _: answer("200 OK", CONTENT)) as host:
        for _ in range(3):
            Fetcher(storage).fetch(f"{host.url}/weights", DIGEST)
        assert len(host.requests) == 1
    assert Fetcher(storage, offline=True).fetch(f"{host.url}/weights", DIGEST) == DIGEST
    with pytest.raises(Offline, match="works offline"):
        Fetcher(storage, offline=True).fetch(f"{host.url}/other")


@pytest.mark.parametrize("accepts", [True, False], ids=["silent", "dropping"])
def test_a_silent_host_is_given_up(storage: Storage, accepts: bool) -> None:
    with black_hole(accepts) as hole, pytest.raises(Offline, match="no answer in time"):
        Fetcher(storage, timeouts=(0.3, 0.3)).fetch(f"{hole.url}/weights")


@pytest.mark.parametrize(
    "url",
    ["ftp://x/y", "file:///etc/passwd", "/etc/passwd", "http://x/\x1b[2J", "http://x/\udcff"]
    + ["http://", "http:///a", "http://:80/a", "http://h:0/", "http://h:99999999/", "http://h:x/"]
    # The last one is another name to whoever normalises it.
    + ["http://[", "http://[::1", "http://[v1.x/", "http://\N{ACCOUNT OF}.example/"]
    + ["http://a..b/", f"http://{'a' * 64}.example/", "http://a b/", "http://-a.example/"]
    + ["http://*.example/", "https://.example/"],
)
def test_only_http_is_fetched(storage: Storage, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Fetcher(storage).fetch(url)
    assert "\x1b" not in str(caught.value)


def test_a_disk_that_is_full_is_an_error_that_leaves_nothing(
    tmp_path: Path, consortium: Consortium
) -> None:
    home = tmp_path / "home"
    member = Member(
        home, consortium.registry.url, consortium.registry.token_for("full@example.org")
    )
    member.json("benchmark", "ls")
    large = b"\x00" * (4 << 20)
    with bad_host(lambda _: answer("200 OK", large)) as host:
        script = (
            "import resource, sys; from medperf_client.cli import main;"
            # What the kernel then says of a write is EFBIG instead of ENOSPC.
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({2 << 20}, {resource.RLIM_INFINITY}));"
            f"sys.argv = ['medperf', 'container', 'submit', '--name', 'x',"
            f" '--container-config-file', '{host.url}/large']; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=member.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert "File too large" in done.stderr and "set MEDPERF_HOME" in done.stderr
    assert list((home / "cache" / "partials").iterdir()) == []


def test_a_profile_s_mirrors_are_asked_first(consortium: Consortium, newcomer: Member) -> None:
    away = "http://127.0.0.1:1/"
    newcomer.does("profile", "set", "mirrors", f"{{{away}: [{consortium.host.url}]}}")
    options = [
        option.replace(consortium.host.url, away)
        for option in consortium.container_options("model_mlp")
    ]
    done = newcomer.run("container", "submit", "--name", "draft", *options, answers="n\n")
    parameters = consortium.candidate / "workspace" / "parameters.yaml"
    digest = hashlib.sha256(parameters.read_bytes()).hexdigest()
    assert f"parameters_hash: {digest}" in done.stderr, done.stderr


@pytest.fixture
def submit(consortium: Consortium, newcomer: Member) -> Callable[..., tuple[int, str]]:
    """Submits the candidate with some options changed, and answers no; exit code and stderr."""

    def run(**changed: str) -> tuple[int, str]:
        options = consortium.container_options("model_mlp")
        given = dict(zip(options[::2], options[1::2], strict=True))
        given |= {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        words = [word for pair in given.items() for word in pair]
        done = newcomer.run("container", "submit", "--name", "draft", *words, answers="n\n")
        assert "Traceback" not in done.stderr and done.stdout == ""
        return done.returncode, done.stderr

    return run


def test_given_hashes_are_checked(submit: Callable[..., tuple[int, str]]) -> None:
    for option in ("parameters_hash", "additional_hash", "image_hash"):
        code, said = submit(**{option: "0" * 64})
        assert code == 1 and f"expected sha256 {'0' * 64}, found " in said, said


def test_a_hash_is_the_same_in_capitals(
    consortium: Consortium, submit: Callable[..., tuple[int, str]]
) -> None:
    parameters = consortium.candidate / "workspace" / "parameters.yaml"
    digest = hashlib.sha256(parameters.read_bytes()).hexdigest()
    code, said = submit(parameters_hash=f"sha256:{digest.upper()}")
    assert code == 1 and f"parameters_hash: {digest}" in said and "Nothing was sent." in said


def test_what_is_at_a_url_must_be_what_it_is_for(submit: Callable[..., tuple[int, str]]) -> None:
    portal = answer("200 OK", b"<html><p>Accept: our terms</p></html>", "Content-Type: text/html")
    with bad_host(lambda _: portal) as host:
        for option in ("container_config_file", "parameters_file", "additional_file"):
            code, said = submit(**{option: f"{host.url}/{option}"})
            assert code == 1 and "Nothing was sent." not in said, said


ROUND = answer("302 Found", b"", "Location: /round")


@pytest.mark.parametrize(
    "reply",
    [
        ROUND,
        answer("302 Found", b"", "Location: file:///etc/passwd"),
        answer("204 No Content"),
        answer("410 Gone"),
        answer("200 OK", CONTENT, "Content-Encoding: gzip"),
    ],
    ids=["a circle", "a scheme", "no content", "gone", "no gzip"],
)
def test_what_waiting_does_not_mend_is_refused_at_once(
    submit: Callable[..., tuple[int, str]], newcomer: Member, reply: bytes
) -> None:
    with bad_host(lambda _: reply) as host:
        code, said = submit(parameters_file=f"{host.url}/p.yaml")
    assert code == 1 and f"{host.url}/p.yaml cannot be fetched" in said, said
    assert "found out at sync" not in said and "Nothing was sent." not in said


def test_what_may_pass_waits(submit: Callable[..., tuple[int, str]]) -> None:
    for status in ("503 Service Unavailable", "429 Too Many Requests", "202 Accepted"):
        with bad_host(lambda _, status=status: answer(status, b"", "Retry-After: 99")) as host:  # type: ignore[misc]
            _, said = submit(parameters_file=f"{host.url}/p.yaml")
        assert "not known yet: parameters_hash" in said and "Nothing was sent." in said, said


def archive_with(name: str) -> bytes:
    """A tar archive of one empty file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer("302 Found", b"", "Location: /round"), "Exceeded 30 redirects"),
        (answer("200 OK", b"<html>Accept our terms"), "it is a web page"),
        (answer("200 OK", archive_with("n" * 300)), "File name too long"),
    ],
    ids=["a circle", "a page", "an archive that no disk takes"],
)
def test_what_was_queued_waits_while_it_may_pass_and_is_refused_once_it_cannot(
    consortium: Consortium, newcomer: Member, reply: bytes, said: str
) -> None:
    later = answer("503 Service Unavailable", b"", "Retry-After: 99")
    replies = [later]
    options = consortium.container_options("model_mlp")
    given = dict(zip(options[::2], options[1::2], strict=True))
    with bad_host(lambda _: replies[-1]) as host:
        given["--additional-file"] = f"{host.url}/weights"
        words = [word for pair in given.items() for word in pair]
        newcomer.does("container", "submit", "--name", "draft", *words, "-y")
        newcomer.run("sync")
        assert [one["state"] for one in newcomer.json("queue", "ls")] == ["queued"]
        replies.append(reply)
        assert newcomer.run("sync").returncode == 1
        [entry] = newcomer.json("queue", "ls")
    assert entry["state"] == "rejected" and said in entry["reason"], entry
    assert f"{host.url}/weights" in entry["reason"]


def test_each_url_of_a_container_is_fetched_once(
    consortium: Consortium, submit: Callable[..., tuple[int, str]]
) -> None:
    consortium.host.requests.clear()
    _, said = submit()
    assert "Nothing was sent." in said
    asked = consortium.host.requests
    assert len(asked) >= 3 and len(set(asked)) == len(asked), asked


def test_what_is_at_a_url_is_called_what_it_is(submit: Callable[..., tuple[int, str]]) -> None:
    page = answer("200 OK", b"<!DOCTYPE html><p>Accept our terms</p>")
    pointer = answer("200 OK", b"version https://git-lfs.github.com/spec/v1\noid sha256:00")
    with bad_host(lambda path: page if path.startswith("/page") else pointer) as host:
        for option in ("container_config_file", "parameters_file", "additional_file"):
            code, said = submit(**{option: f"{host.url}/page"})
            assert code == 1 and "is a web page" in said and f"{host.url}/page" in said, said
            code, said = submit(**{option: f"{host.url}/pointer"})
            assert code == 1 and "is a Git LFS pointer, not the file itself" in said, said


def test_a_file_on_this_disk_is_called_by_its_path(
    submit: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "weights.tar.gz").write_bytes(b"<html>Accept our terms")
    for option in ("container_config_file", "parameters_file", "additional_file"):
        code, said = submit(**{option: str(tmp_path / "weights.tar.gz")})
        assert code == 1 and f"{tmp_path / 'weights.tar.gz'}" in said and "a web page" in said, said
        assert "/api/v0/assets/" not in said


def test_a_zip_archive_of_weights_is_taken_and_said_to_be_one(
    submit: Callable[..., tuple[int, str]],
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("weights/model.bin", b"x" * 5000)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    with bad_host(lambda _: answer("200 OK", buffer.getvalue())) as host:
        code, said = submit(additional_file=f"{host.url}/weights")
    assert f"{host.url}/weights is a zip archive: MedPerf's own client cannot" in said, said
    assert f"additional_files_tarball_hash: {digest}" in said and "Nothing was sent." in said


def test_a_hash_is_taken_as_given_only_where_the_host_is_away(
    submit: Callable[..., tuple[int, str]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = f"http://127.0.0.1:{closed.getsockname()[1]}/p.yaml"
    code, said = submit(parameters_file=away, parameters_hash="1" * 64)
    assert (
        f"not checked: {away} cannot be reached" in said and f"parameters_hash: {'1' * 64}" in said
    )
    with bad_host(lambda _: answer("404 Not Found")) as host:
        code, said = submit(parameters_file=f"{host.url}/p.yaml", parameters_hash="1" * 64)
    assert code == 1 and "answered 404" in said and "Nothing was sent." not in said


def demo_data(paths: bytes) -> bytes:
    """An archive that holds nothing but a `paths.yaml`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("paths.yaml")
        entry.size = len(paths)
        tar.addfile(entry, io.BytesIO(paths))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (b"data_path: /etc\nlabels_path: .", "data_path: expected a folder of the archive"),
        (b"data_path: ../..\nlabels_path: .", "data_path: expected a folder of the archive"),
        (b'data_path: "a\\0b"\nlabels_path: .', "data_path: expected a folder of the archive"),
        (b"data_path: .", "labels_path: expected a folder of the archive, found None"),
    ],
)
def test_demo_data_that_lie_about_their_folders(newcomer: Member, paths: bytes, said: str) -> None:
    content = demo_data(paths)
    digest = hashlib.sha256(content).hexdigest()
    with bad_host(lambda _: answer("200 OK", content)) as host:
        done = newcomer.run(
            *("test", "run", "--benchmark", "1", "--demo-url", f"{host.url}/demo.tar"),
            *("--demo-hash", digest),
        )
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("packed", ["donne\u0301es", "donn\u00e9es"])
def test_demo_data_s_folders_are_found_however_their_accents_are_composed(
    newcomer: Member, packed: str
) -> None:
    """As macOS packs them, while an editor writes `paths.yaml`; and the other way round."""
    buffer = io.BytesIO()
    named = {"donn\u00e9es": "donne\u0301es"}.get(packed, "donn\u00e9es")
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        content = f"data_path: {packed}/a\nlabels_path: {packed}/none\n".encode()
        entry = tarfile.TarInfo("paths.yaml")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        folder = tarfile.TarInfo(f"{named}/a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    with bad_host(lambda _: answer("200 OK", buffer.getvalue())) as host:
        done = newcomer.run(
            *("test", "run", "--benchmark", "1", "--demo-url", f"{host.url}/demo.tar"),
            *("--demo-hash", digest),
        )
    # The first is found, and the second is what is not there.
    assert "labels_path: expected a folder" in done.stderr, done.stderr
    assert "data_path: expected a folder" not in done.stderr


DOUBLINGS = b"".join(
    b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 8)) for n in range(98, 109)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"2026-01-01: x", "cannot be read as YAML"),
        (b"a: &a [*a]", "cannot be read as YAML"),
        (b"a: 2026-99-99", "cannot be read as YAML"),
        (b"[" * 5000, "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"a: &a [1,1,1,1,1,1,1,1]\n" + DOUBLINGS, "with its aliases resolved"),
        (b"- a", "expected a mapping"),
        (b"", "expected a mapping"),
    ],
)
def test_yaml_of_a_container_is_read_with_suspicion(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "results.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidContainer, match=said):
        read_yaml(file, "what evaluate wrote")


def test_what_is_not_a_number_is_a_word_in_json(tmp_path: Path) -> None:
    file = tmp_path / "results.yaml"
    file.write_text("auroc: .nan\nratio: -.inf\nday: 2026-11-25\n1: one")
    expected = {"auroc": "NaN", "ratio": "-Infinity", "day": "2026-11-25", "1": "one"}
    assert read_yaml(file, "results") == expected
