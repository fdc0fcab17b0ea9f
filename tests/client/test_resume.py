"""A download goes on from where it was cut, whatever cut it, and never mixes two files."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medperf_cache import Storage
from medperf_client.cli.display import Display
from medperf_client.errors import (
    MedPerfError,
    Offline,
    Refused,
    TryLater,
    UsageError,
    WrongHash,
)
from medperf_client.execution.parallel import at_once
from medperf_client.settings.config import Profile
from medperf_client.transfer.fetcher import Fetcher
from tests.support.badhost import answer, bad_host
from tests.support.forks import IMPORT_ROOTS
from tests.support.proxy import (
    FINE,
    LOST,
    NO_RANGES,
    PORTAL,
    RESET,
    Fault,
    Proxy,
    Request,
    in_turn,
    proxy,
    status,
)
from tests.support.rangehost import range_host

SIZE, PART = 1 << 20, 1 << 18
CONTENT, OTHER = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
DIGEST, OTHER_DIGEST = sha256(CONTENT).hexdigest(), sha256(OTHER).hexdigest()
NO_MOMENT = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
NO_TAG, NO_VALIDATOR = frozenset({"etag"}), frozenset({"etag", "last-modified"})
FETCH = """
import sys
from pathlib import Path
from medperf_cache import Storage
from medperf_client.transfer.fetcher import Fetcher
print(Fetcher(Storage(Path(sys.argv[1]))).fetch(*sys.argv[2:]))
"""


def write(folder: Path, content: bytes, changed: float = 1e9) -> None:
    """Host `content` as the file `weights`, last changed at that time."""
    (folder / "weights").write_bytes(content)
    os.utime(folder / "weights", (changed, changed))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is hosted: one file, `weights`."""
    made = tmp_path / "hosted"
    made.mkdir()
    write(made, CONTENT)
    return made


@pytest.fixture
def host(folder: Path) -> Iterator[Proxy]:
    """A proxy before a host that knows ranges."""
    with range_host(folder) as url, proxy(url) as made:
        yield made


@pytest.fixture
def fetcher(tmp_path: Path) -> Callable[..., Fetcher]:
    """Makes fetchers that share a cache as separate processes do, and wait for nothing."""

    def make(mirrors: dict[str, list[str]] | None = None) -> Fetcher:
        return Fetcher(Storage(tmp_path / "cache"), mirrors=mirrors, first_wait_seconds=0)

    return make


def interrupted(host: Proxy, fetcher: Fetcher, first: Fault, expected: str | None = DIGEST) -> None:
    """A fetch of which one part arrives, and then nothing any more; forgets its requests."""
    host.requests.clear()
    host.faults = lambda request: LOST if request.number else first
    with pytest.raises(Offline, match="cannot be fetched"):
        fetcher.fetch(f"{host.url}/weights", expected)
    host.requests.clear()
    host.faults, host.moved = in_turn(), 0


def cut(after: int = PART, **more: frozenset[str]) -> Fault:
    """A connection that ends after so many bytes."""
    return Fault(cut_after=after, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("expected", [DIGEST, None], ids=["known hash", "unknown hash"])
def test_a_connection_that_is_cut_again_and_again_moves_every_byte_once(
    host: Proxy, fetcher: Callable[..., Fetcher], expected: str | None
) -> None:
    host.faults = lambda _: cut(100_000)
    assert fetcher().fetch(f"{host.url}/weights", expected) == DIGEST
    assert host.moved == SIZE
    starts = [request.headers.get("range") for request in host.requests]
    assert starts == [None, *(f"bytes={n}-" for n in range(100_000, SIZE, 100_000))]


def test_progress_begins_with_what_was_here_before(
    host: Proxy, fetcher: Callable[..., Fetcher], tmp_path: Path
) -> None:
    interrupted(host, fetcher(), cut())
    told: list[tuple[int, int | None]] = []
    storage = Storage(tmp_path / "cache")
    seen = Fetcher(storage, progress=lambda _, done, total: told.append((done, total)))
    seen.fetch(f"{host.url}/weights", DIGEST)
    assert told[0] == (PART, SIZE) and told[-1] == (SIZE, SIZE)
    assert told == sorted(told)


def test_a_speed_is_that_of_what_was_moved(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    for done in (10**12 - 1000, 10**12):
        display.progress("weights", done, 10**12)
    (line,) = capsys.readouterr().err.splitlines()
    size, speed = line.removeprefix("fetched weights: ").split(", ")
    assert size == "1 TB" and speed.endswith(("MB/s", "kB/s", " B/s"))


def test_a_reset_costs_little(host: Proxy, fetcher: Callable[..., Fetcher]) -> None:
    host.faults = in_turn(Fault(cut_after=3 * PART, reset=True), RESET)
    assert fetcher().fetch(f"{host.url}/weights", DIGEST) == DIGEST
    assert host.moved == SIZE


@pytest.mark.parametrize("expected", [DIGEST, None], ids=["known hash", "unknown hash"])
@pytest.mark.parametrize(
    ("hidden", "validator"), [(frozenset(), '"'), (NO_TAG, "Sun, 09 Sep 2001 01:46:40 GMT")]
)
def test_the_next_process_goes_on_where_the_last_one_stopped(
    host: Proxy,
    fetcher: Callable[..., Fetcher],
    expected: str | None,
    hidden: frozenset[str],
    validator: str,
) -> None:
    interrupted(host, fetcher(), cut(hidden=hidden), expected)
    assert fetcher().fetch(f"{host.url}/weights", expected) == DIGEST
    (request,) = host.requests
    assert request.headers["range"] == f"bytes={PART}-" and host.moved == SIZE - PART
    assert request.headers["if-range"].startswith(validator)


def test_without_a_validator_only_a_known_hash_lets_it_go_on(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    for expected, moved in ((None, SIZE), (DIGEST, SIZE - PART)):
        interrupted(host, fetcher(), cut(hidden=NO_VALIDATOR), expected)
        assert fetcher().fetch(f"{host.url}/weights", expected) == DIGEST
        assert host.moved == moved
        fetcher()._storage.blobs.remove(DIGEST)


@pytest.mark.parametrize(("days", "trusted"), [(4000, True), (-40000, False)])
def test_a_date_is_a_validator_only_if_it_is_in_the_past_of_its_host(
    host: Proxy, fetcher: Callable[..., Fetcher], days: float, trusted: bool
) -> None:
    first = Fault(cut_after=PART, hidden=NO_TAG, clock_days=days)
    interrupted(host, fetcher(), first)
    assert fetcher().fetch(f"{host.url}/weights", DIGEST) == DIGEST
    assert ("if-range" in host.requests[0].headers) is trusted


@pytest.mark.parametrize("expected", [DIGEST, None], ids=["known hash", "unknown hash"])
def test_a_host_without_ranges_starts_over(
    host: Proxy, fetcher: Callable[..., Fetcher], expected: str | None
) -> None:
    interrupted(host, fetcher(), cut(), expected)
    host.faults = lambda _: NO_RANGES
    assert fetcher().fetch(f"{host.url}/weights", expected) == DIGEST
    assert host.moved == SIZE and len(host.requests) == 1


@pytest.mark.parametrize(
    "hidden",
    [frozenset(), NO_TAG, NO_VALIDATOR, frozenset({"if-range"}), NO_VALIDATOR | {"if-range"}],
    ids=["tag", "date", "nothing", "if-range ignored", "nothing at all"],
)
@pytest.mark.parametrize("expected", [OTHER_DIGEST, None], ids=["known hash", "unknown hash"])
def test_a_file_that_changed_meanwhile_starts_over(
    host: Proxy,
    folder: Path,
    fetcher: Callable[..., Fetcher],
    hidden: frozenset[str],
    expected: str | None,
) -> None:
    interrupted(host, fetcher(), cut(hidden=hidden - {"if-range"}), expected)
    write(folder, OTHER, changed=1.1e9)
    host.faults = lambda _: Fault(hidden=hidden)
    assert fetcher().fetch(f"{host.url}/weights", expected) == OTHER_DIGEST
    assert not (fetcher()._storage.root / "rejected").exists()


def test_a_file_that_became_shorter_starts_over(
    host: Proxy, folder: Path, fetcher: Callable[..., Fetcher]
) -> None:
    interrupted(host, fetcher(), cut(hidden=NO_VALIDATOR))
    write(folder, b"short")
    digest = sha256(b"short").hexdigest()
    assert fetcher().fetch(f"{host.url}/weights", digest) == digest


def test_a_file_that_is_here_but_for_its_last_step_costs_one_byte(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    interrupted(host, fetcher(), cut(SIZE - 1))
    with fetcher()._partials.hold(f"{host.url}/weights") as partial:
        partial.append(CONTENT[-1:])
    assert fetcher().fetch(f"{host.url}/weights") == DIGEST
    assert host.moved == 1


def test_a_wrong_hash_after_a_resume_is_first_checked_against_a_fresh_copy(
    host: Proxy, folder: Path, fetcher: Callable[..., Fetcher]
) -> None:
    interrupted(host, fetcher(), cut())
    with pytest.raises(WrongHash) as caught:
        fetcher().fetch(f"{host.url}/weights", OTHER_DIGEST)
    assert DIGEST in str(caught.value) and OTHER_DIGEST in str(caught.value)
    assert host.moved == 2 * SIZE - PART
    assert (fetcher()._storage.root / "rejected" / DIGEST).read_bytes() == CONTENT


def test_an_answer_that_only_looks_whole_is_never_used(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    host.faults = in_turn(Fault(truncate=PART))
    with pytest.raises(WrongHash, match=f"expected sha256 {DIGEST}"):
        fetcher().fetch(f"{host.url}/weights", DIGEST)
    assert fetcher().fetch(f"{host.url}/weights", DIGEST) == DIGEST


@pytest.mark.parametrize("expected", [DIGEST, None], ids=["known hash", "unknown hash"])
def test_a_captive_portal_does_not_cost_what_has_arrived(
    host: Proxy, fetcher: Callable[..., Fetcher], expected: str | None
) -> None:
    interrupted(host, fetcher(), cut(), expected)
    host.faults = in_turn(PORTAL)
    with pytest.raises(Offline, match="is a web page now") as caught:
        fetcher().fetch(f"{host.url}/weights", expected)
    assert "login" in caught.value.hint
    assert fetcher().fetch(f"{host.url}/weights", expected) == DIGEST
    assert host.moved == SIZE - PART


def test_a_captive_portal_s_page_is_called_one(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    host.faults = in_turn(PORTAL)
    with pytest.raises(WrongHash) as caught:
        fetcher().fetch(f"{host.url}/weights", DIGEST)
    assert "web page" in caught.value.hint


def test_a_host_that_answers_in_vain_is_asked_five_times(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    for fault in (status("500 Oops"), status("502 Bad Gateway"), LOST, RESET, cut(10)):
        host.requests.clear()
        host.faults = lambda _, fault=fault: fault  # type: ignore[misc]
        with pytest.raises(TryLater):
            fetcher().fetch(f"{host.url}/weights")
        assert len(host.requests) == 5


def test_a_host_that_is_busy_says_when_to_come_back(host: Proxy, tmp_path: Path) -> None:
    # Whoever did not listen to it would wait for hours.
    fetcher = Fetcher(Storage(tmp_path / "cache"), first_wait_seconds=1e5)
    busy = [status(f"{code} Busy", "Retry-After: 0") for code in (429, 503, 429, 503)]
    host.faults = in_turn(*busy)
    assert fetcher.fetch(f"{host.url}/weights") == DIGEST


def test_a_host_that_names_no_moment_that_can_be_is_asked_again(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    host.faults = in_turn(
        status("503 Busy", "Date: Mon, 01 Jan 2001 00:00:00 GMT", f"Retry-After: {NO_MOMENT}")
    )
    assert fetcher().fetch(f"{host.url}/weights") == DIGEST


def test_a_host_that_wants_an_hour_gets_it(host: Proxy, fetcher: Callable[..., Fetcher]) -> None:
    now = datetime(1999, 1, 1, tzinfo=timezone.utc)
    date, later = (format_datetime(t, usegmt=True) for t in (now, now + timedelta(hours=1)))
    for headers in (["Retry-After: 3600"], [f"Date: {date}", f"Retry-After: {later}"]):
        host.requests.clear()
        host.faults = lambda _, headers=headers: status("503 Busy", *headers)  # type: ignore[misc]
        with pytest.raises(TryLater) as caught:
            fetcher().fetch(f"{host.url}/weights")
        assert caught.value.seconds == 3600 and len(host.requests) == 1


def test_a_host_that_is_away_is_not_waited_for(host: Proxy, tmp_path: Path) -> None:
    host.stop()
    with pytest.raises(Offline, match="Connection refused") as caught:
        Fetcher(Storage(tmp_path / "cache"), first_wait_seconds=1e5).fetch(f"{host.url}/weights")
    assert not isinstance(caught.value, TryLater)


def test_what_does_not_fit_is_refused_before_it_is_fetched(
    tmp_path: Path, fetcher: Callable[..., Fetcher]
) -> None:
    reply = answer("200 OK", b"x", f"Content-Length: {1 << 60}")
    with bad_host(lambda _: reply) as host, pytest.raises(OSError, match="more bytes are needed"):
        fetcher().fetch(f"{host.url}/weights")
    assert list((tmp_path / "cache" / "partials").iterdir()) == []


@pytest.mark.parametrize(
    ("mirrors", "said"),
    [
        ("[http://a/]", "mirrors expects lists of URLs by URL"),
        ("{http://a/: http://b/}", "'http://a/' expects URLs, found 'http://b/'"),
        ("{http://a: [http://b/]}", "'http://a' is not a URL that ends with a slash"),
        ("{http://a/: [http://b/files]}", "'http://b/files' is not a URL that ends with a slash"),
        ("{http://a/: [ftp://b/]}", "'ftp://b/' is not a URL"),
        ("{http://a/: [7]}", "7 is not a URL"),
        ("{7: []}", "7 is not a URL"),
        ('{http://a/: ["http://b/\\e[2J/"]}', "is not a URL"),
    ],
)
def test_mirrors_that_cannot_be_are_named(mirrors: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Profile().with_text("mirrors", mirrors)
    assert said in str(caught.value) and "\x1b" not in str(caught.value)


def test_mirrors_are_read_as_a_profile_has_them() -> None:
    text = "{http://a/: [http://b/files/, https://c:8443/]}"
    mirrors = Profile().with_text("mirrors", text).mirrors
    assert mirrors == {"http://a/": ["http://b/files/", "https://c:8443/"]}


def test_mirrors_come_first_and_in_order(
    host: Proxy, folder: Path, fetcher: Callable[..., Fetcher]
) -> None:
    with range_host(folder) as target, proxy(target) as first, proxy(target) as second:
        mirrors = {
            f"{host.url}/": [f"{first.url}/none/", f"{second.url}/"],
            "http://elsewhere.example/": ["http://127.0.0.1:1/"],
        }
        assert fetcher(mirrors).fetch(f"{host.url}/weights") == DIGEST
        assert [request.path for request in first.requests] == ["/none/weights"]
        assert [request.path for request in second.requests] == ["/weights"]
        assert host.requests == []
    assert fetcher().remembered(f"{host.url}/weights") == DIGEST


def test_a_file_whose_hash_is_known_goes_on_from_any_mirror(
    host: Proxy, folder: Path, fetcher: Callable[..., Fetcher]
) -> None:
    with range_host(folder) as target, proxy(target) as mirror:
        mirrors = {f"{host.url}/": [f"{mirror.url}/"]}
        mirror.faults = in_turn(cut(), LOST)
        assert fetcher(mirrors).fetch(f"{host.url}/weights", DIGEST) == DIGEST
        assert mirror.moved == PART and host.moved == SIZE - PART


def test_a_mirror_with_other_content_is_passed_over(
    host: Proxy, tmp_path: Path, fetcher: Callable[..., Fetcher]
) -> None:
    (tmp_path / "mirror").mkdir()
    write(tmp_path / "mirror", OTHER)
    with range_host(tmp_path / "mirror") as mirror:
        mirrors = {f"{host.url}/": [f"{mirror}/"]}
        assert fetcher(mirrors).fetch(f"{host.url}/weights", DIGEST) == DIGEST
        # Even where it has only the second half.
        fetcher()._storage.blobs.remove(DIGEST)
        interrupted(host, fetcher(), cut())
        assert fetcher(mirrors).fetch(f"{host.url}/weights", DIGEST) == DIGEST
        host.stop()
        fetcher()._storage.blobs.remove(DIGEST)
        with pytest.raises(Offline, match="Connection refused") as caught:
            fetcher(mirrors).fetch(f"{host.url}/weights", DIGEST)
    assert OTHER_DIGEST in caught.value.hint


def test_many_files_are_fetched_at_once(host: Proxy, folder: Path, tmp_path: Path) -> None:
    contents = {f"file{number}": random.Random(number).randbytes(PART) for number in range(9)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    expected = [sha256(content).hexdigest() for content in contents.values()]
    together = threading.Barrier(4)

    def all_four_ask(request: Request) -> Fault:
        if request.number < 4:
            together.wait(timeout=30)
        return FINE

    host.faults = all_four_ask
    fetcher = Fetcher(Storage(tmp_path / "cache"), first_wait_seconds=0)
    jobs = [partial(fetcher.fetch, f"{host.url}/{name}") for name in contents]
    assert at_once(jobs) == expected
    assert at_once([]) == []


def test_one_file_that_is_missing_keeps_no_other_from_arriving(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    fetch = fetcher().fetch
    missing, found = at_once(
        [partial(fetch, f"{host.url}/none"), partial(fetch, f"{host.url}/weights", DIGEST)]
    )
    assert isinstance(missing, Refused) and "/none" in str(missing)
    assert found == DIGEST


def test_what_a_url_held_is_remembered_while_it_is_here(
    host: Proxy, fetcher: Callable[..., Fetcher]
) -> None:
    url = f"{host.url}/weights"
    assert fetcher().remembered(url) is None
    fetcher().fetch(url)
    assert fetcher().remembered(url) == DIGEST
    fetcher()._storage.blobs.remove(DIGEST)
    assert fetcher().remembered(url) is None


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    """A process that fetches into the cache at `root`."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(root), *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_want_the_same_file_fetch_it_once(host: Proxy, tmp_path: Path) -> None:
    host.faults = lambda _: Fault(gap=0.02)
    processes = [start(tmp_path / "cache", f"{host.url}/weights", DIGEST) for _ in range(3)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [DIGEST] * 3
    assert len(host.requests) == 1


class Killer:
    """Faults that kill a process a moment after its request came, in the middle of the answer."""

    def __init__(self, seed: int) -> None:
        self._moments = random.Random(seed)
        self._victim: subprocess.Popen[str] | None = None
        self._aimed = threading.Event()

    def __call__(self, request: Request) -> Fault:
        assert self._aimed.wait(30) and self._victim is not None
        delay = self._moments.uniform(0, 0.08)
        threading.Timer(delay, self._victim.send_signal, [signal.SIGKILL]).start()
        return Fault(gap=0.05)

    def kills(self, victim: subprocess.Popen[str]) -> bool:
        """Whether the process ended that way."""
        self._victim = victim
        self._aimed.set()
        code = victim.wait(60)
        self._aimed.clear()
        return code == -signal.SIGKILL


@pytest.mark.parametrize("expected", [DIGEST, None], ids=["known hash", "unknown hash"])
def test_a_download_survives_kill_9(host: Proxy, tmp_path: Path, expected: str | None) -> None:
    root, words = tmp_path / "cache", [f"{host.url}/weights", *([expected] if expected else [])]
    seed = int(os.environ.get("MEDPERF_TEST_SEED", "1"))
    host.faults = killer = Killer(seed)
    interrupted = 0
    for _ in range(8):
        assert killer.kills(start(root, *words)), f"with seed {seed} it was done before"
        (content,) = root.glob("partials/*/content")
        left = content.stat().st_size
        interrupted += left > 0
        assert content.read_bytes() == CONTENT[:left]
    assert interrupted, f"with seed {seed} no kill came in the middle"
    host.faults = in_turn()
    host.requests.clear()
    assert start(root, *words).communicate(timeout=60)[0].strip() == DIGEST
    # Without a hash to tell, what was not yet forced to disk may be what a power cut left.
    asked = f"bytes={left}-" if expected and left else None
    assert host.requests[0].headers.get("range") == asked
    storage = Storage(root)
    assert list(storage.verify()) == [] and list(storage.blobs) == [DIGEST]
    assert list((root / "partials").iterdir()) == []


faults = st.one_of(
    st.sampled_from([LOST, RESET, PORTAL, NO_RANGES, status("503 Busy", "Retry-After: 0")]),
    st.builds(
        Fault,
        cut_after=st.integers(0, SIZE),
        reset=st.booleans(),
        hidden=st.sampled_from([frozenset(), NO_TAG, NO_VALIDATOR, frozenset({"if-range"})]),
    ),
    st.builds(Fault, truncate=st.integers(0, SIZE)),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.lists(st.tuples(st.lists(faults, max_size=6), st.booleans()), max_size=4))
def test_whatever_happens_on_the_way_the_file_is_right_in_the_end(
    host: Proxy,
    folder: Path,
    fetcher: Callable[..., Fetcher],
    days: list[tuple[list[Fault], bool]],
) -> None:
    storage = fetcher()._storage
    for faults, changed in days:
        write(folder, OTHER if changed else CONTENT, changed=1e9 + changed)
        host.requests.clear()
        host.faults = in_turn(*faults)
        try:
            assert fetcher().fetch(f"{host.url}/weights", DIGEST) == DIGEST
        except MedPerfError:
            assert DIGEST not in storage.blobs
    write(folder, CONTENT)
    host.faults = in_turn()
    assert fetcher().fetch(f"{host.url}/weights", DIGEST) == DIGEST
    assert list(storage.verify()) == [] and list(storage.blobs) == [DIGEST]
    storage.blobs.remove(DIGEST)
