"""Unfinished downloads: what is kept of them, what is not, and who may have them."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_cache.partials import SYNC_BYTES, Origin, Partials
from tests.cache.content import residue
from tests.cache.processes import run_together, start

URL = "http://example.org/weights"
ORIGIN = Origin(URL, '"1"', 100, "application/gzip")


@pytest.fixture
def partials(storage: Storage) -> Partials:
    """The unfinished downloads of an empty cache."""
    return Partials(storage.root, storage.blobs)


def begin(partials: Partials, content: bytes = b"half", url: str = URL) -> None:
    """Leave a download unfinished."""
    with partials.hold(url) as partial:
        partial.begin(ORIGIN)
        partial.append(content)


def kept(storage: Storage) -> list[Path]:
    """The folders of unfinished downloads."""
    return sorted((storage.root / "partials").glob("*"))


def test_what_was_begun_goes_on_later(storage: Storage, partials: Partials) -> None:
    begin(partials)
    with partials.hold(URL) as partial:
        assert (partial.size, partial.synced, partial.origin) == (4, 4, ORIGIN)
        assert not partial.fresh and partial.digest() == sha256(b"half").hexdigest()
        partial.go_on(ORIGIN)
        partial.append(b" and half")
        assert list(storage.blobs) == []
        digest = partial.publish()
    assert digest == sha256(b"half and half").hexdigest()
    assert storage.blobs.path(digest).read_bytes() == b"half and half"
    assert kept(storage) == residue(storage) == []


def test_it_is_fresh_until_it_comes_from_elsewhere(partials: Partials) -> None:
    other_place = Origin("http://mirror/weights", '"1"', 100, "")
    other_version = Origin(URL, '"2"', 100, "")
    no_version = Origin(URL, "", 100, "")
    for first, second, fresh in (
        (ORIGIN, ORIGIN, True),
        (ORIGIN, other_place, False),
        (ORIGIN, other_version, False),
        (no_version, no_version, False),
    ):
        with partials.hold(URL) as partial:
            partial.begin(first)
            partial.append(b"half")
            assert partial.fresh
            partial.go_on(second)
            assert partial.fresh is fresh
            partial.forget()


def test_starting_over_leaves_nothing_of_what_was(partials: Partials) -> None:
    begin(partials, b"a longer beginning")
    with partials.hold(URL) as partial:
        partial.begin(ORIGIN)
        partial.append(b"short")
        partial.shorten(4)
        assert partial.digest() == sha256(b"shor").hexdigest()
        partial.append(b"e")
        assert partial.digest() == sha256(b"shore").hexdigest()


def test_nothing_is_left_of_a_download_that_never_began(
    storage: Storage, partials: Partials
) -> None:
    with partials.hold(URL):
        pass
    with partials.hold(URL) as partial:
        partial.begin(ORIGIN)
    assert kept(storage) == []


def test_bytes_of_which_nothing_is_known_are_not_used(storage: Storage, partials: Partials) -> None:
    for state in (b"", b"{", b"[]", b'{"origin": {}, "synced": 1}', b"\xff"):
        begin(partials)
        (folder,) = kept(storage)
        (folder / "state.json").write_bytes(state)
        with partials.hold(URL) as partial:
            assert (partial.size, partial.origin) == (0, None)


def test_it_never_claims_more_than_is_there(storage: Storage, partials: Partials) -> None:
    begin(partials)
    (folder,) = kept(storage)
    (folder / "content").write_bytes(b"h")
    with partials.hold(URL) as partial:
        assert (partial.size, partial.synced) == (1, 1)


def test_a_long_download_is_forced_to_disk_on_the_way(storage: Storage, partials: Partials) -> None:
    with partials.hold(URL) as partial:
        partial.begin(ORIGIN)
        for _ in range(SYNC_BYTES // (1 << 22) + 1):
            partial.append(bytes(1 << 22))
        assert partial.synced == SYNC_BYTES < partial.size
        (folder,) = kept(storage)
        assert json.loads((folder / "state.json").read_text())["synced"] == SYNC_BYTES


def test_what_was_rejected_is_apart_until_it_is_old(storage: Storage, partials: Partials) -> None:
    with partials.hold(URL) as partial:
        partial.begin(ORIGIN)
        partial.append(b"wrong")
        path = partial.reject()
        assert (partial.size, partial.origin) == (0, None)
        partial.begin(ORIGIN)
        partial.append(b"right")
        right = partial.publish()
    assert path.read_bytes() == b"wrong" and path.name == sha256(b"wrong").hexdigest()
    assert list(storage.blobs) == [right]
    partials.clean(3600)
    assert path.exists()
    os.utime(path, (1, 1))
    partials.clean(3600)
    assert not path.exists()


def test_what_nobody_went_on_with_is_cleaned(storage: Storage, partials: Partials) -> None:
    begin(partials, url="http://example.org/old")
    (old,) = kept(storage)
    begin(partials)
    for path in (*old.iterdir(), old):
        os.utime(path, (1, 1))
    partials.clean(3600)
    assert not old.exists() and len(kept(storage)) == 1
    with partials.hold(URL):
        partials.clean(-1)
        assert len(kept(storage)) == 1
    partials.clean(-1)
    assert kept(storage) == []


def test_one_at_a_time_has_a_url(partials: Partials) -> None:
    order, others = [], []

    def wait() -> None:
        with partials.hold(URL) as partial:
            order.append(partial.size)

    with partials.hold(URL) as partial:
        partial.begin(ORIGIN)
        for _ in range(3):
            others.append(threading.Thread(target=wait))
            others[-1].start()
        with partials.hold("http://example.org/other"):
            partial.append(b"half")
        order.append(-1)
    for thread in others:
        thread.join(30)
    assert order == [-1, 4, 4, 4]


def test_many_that_leave_nothing_do_not_disturb_each_other(partials: Partials) -> None:
    def come_and_go(_: int) -> None:
        with partials.hold(URL) as partial:
            assert partial.size == 0

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(come_and_go, range(3000)))


def test_many_processes_finish_each_other_s_work(storage: Storage, partials: Partials) -> None:
    content = bytes(range(100))
    digest = sha256(content).hexdigest()

    def add_one() -> None:
        with partials.hold(URL) as partial:
            if partial.origin is None:
                partial.begin(ORIGIN)
            partial.append(content[partial.size : partial.size + 1])
            if partial.size == len(content):
                assert partial.publish() == digest

    run_together(*[lambda: [add_one() for _ in range(25)] for _ in range(4)])  # type: ignore[func-returns-value]
    assert list(storage.blobs) == [digest] and kept(storage) == []


def test_a_process_that_dies_gives_its_url_up(partials: Partials) -> None:
    def die() -> None:
        with partials.hold(URL) as partial:
            partial.begin(ORIGIN)
            partial.append(b"half")
            os._exit(9)

    process = start(die)
    process.join(60)
    assert process.exitcode == 9
    with partials.hold(URL) as partial:
        assert (partial.size, partial.synced) == (4, 0)


def test_a_full_disk_is_told_and_keeps_nothing(storage: Storage, partials: Partials) -> None:
    import resource

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(OSError, match="File too large"), partials.hold(URL) as partial:
            partial.begin(ORIGIN)
            partial.append(bytes(3 << 19))
        assert kept(storage) == []

    run_together(work)


def test_a_file_for_which_there_is_no_room_is_not_begun(
    storage: Storage, partials: Partials
) -> None:
    huge = Origin(URL, '"1"', 1 << 60, "")
    with pytest.raises(OSError, match="No space left"), partials.hold(URL) as partial:
        partial.begin(huge)
    assert kept(storage) == []
