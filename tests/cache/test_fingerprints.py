"""Files outside the cache are read on all cores, once, and again only when they changed."""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medperf_cache import CacheError, Storage, fingerprints, tree_digest
from medperf_cache.fingerprints import FINE_TICK_NS
from medperf_cache.helper import Helper
from tests.cache.content import File, Tree, build, trees
from tests.cache.processes import start

_at_open: Callable[[str], None] | None = None


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _at_open is not None:
        _at_open(str(arguments[0]))


sys.addaudithook(_note_open)


@pytest.fixture(autouse=True)
def _nobody_listens() -> Iterator[None]:
    yield
    listen(None)


def listen(at_open: Callable[[str], None] | None) -> None:
    """Have `at_open` called with the path of every file that any thread is about to open."""
    global _at_open
    _at_open = at_open


@pytest.fixture
def opened() -> list[str]:
    """The paths of all files that this process opens."""
    paths: list[str] = []
    listen(paths.append)
    return paths


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 files, each of which a reader takes by itself."""
    monkeypatch.setattr(fingerprints, "BATCH_FILES", 1)
    tree: Tree = {f"{number:02}": File(str(number).encode()) for number in range(40)}
    folder = build({"a": tree, "b": tree}, tmp_path / "files") / "a"
    settle()
    return folder


def told(into: list[tuple[str, int, int | None]]) -> fingerprints.Progress:
    """Progress that is kept."""
    return lambda *what: into.append(what)


def settle() -> None:
    """Wait until a file written now can no longer change within the same tick of the clock."""
    time.sleep(1.5 * FINE_TICK_NS / 1e9)


def restore(path: Path, status: os.stat_result) -> None:
    """Give a file the time of last change that it had."""
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["weights.bin", os.fsdecode(b"weights-\xff.bin")])
def test_an_unchanged_file_is_not_read_again(
    name: str, tmp_path: Path, storage: Storage, opened: list[str]
) -> None:
    folder = build({name: File(b"weights"), "d": {name: File(b"more")}}, tmp_path / name)
    settle()
    first = storage.fingerprints.digest(folder)
    assert str(folder / name) in opened
    opened.clear()

    assert Storage(storage.root).fingerprints.digest(folder) == first == tree_digest(folder)
    assert opened.count(str(folder / name)) == 1  # by `tree_digest`, which remembers nothing


def test_a_file_rewritten_at_once_in_its_size_is_seen(tmp_path: Path, storage: Storage) -> None:
    file = tmp_path / "file"
    for number in range(200):
        content = f"{number:03}".encode()
        file.write_bytes(content)

        assert storage.fingerprints.digest(file) == sha256(content).hexdigest()


def test_a_rewrite_that_restores_size_and_time_is_seen(tmp_path: Path, storage: Storage) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    settle()
    storage.fingerprints.digest(file)
    status = file.stat()

    file.write_bytes(b"later!")
    restore(file, status)

    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert storage.fingerprints.digest(file) == sha256(b"later!").hexdigest()


def test_another_file_moved_into_place_is_seen(tmp_path: Path, storage: Storage) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"before")
    other.write_bytes(b"later!")
    settle()
    storage.fingerprints.digest(file)
    restore(other, file.stat())

    os.rename(other, file)

    assert storage.fingerprints.digest(file) == sha256(b"later!").hexdigest()


def test_a_folder_is_fingerprinted_through_a_link_to_it(tmp_path: Path, storage: Storage) -> None:
    folder = build({"a": File(b"x")}, tmp_path / "folder")
    (tmp_path / "link").symlink_to(folder)

    assert storage.fingerprints.digest(tmp_path / "link") == tree_digest(folder)


def test_parts_of_a_folder_are_as_folders_that_have_but_these(
    tmp_path: Path, storage: Storage
) -> None:
    tree: Tree = {"a": File(b"a"), "a.b": File(b"ab"), "b": {"a": File(b"ba"), "c": {}}}
    whole = build(tree, tmp_path / "whole")
    groups = [("b", "a"), ("a.b", "nothing"), (), ("b", "a.b", "a")]
    expected = [
        tree_digest(build({name: tree[name] for name in group if name in tree}, tmp_path / str(n)))
        for n, group in enumerate(groups)
    ]
    assert storage.fingerprints.parts(whole, groups) == expected
    assert expected[-1] == storage.fingerprints.digest(whole)


def test_the_folder_hash_is_medperf_s(tmp_path: Path, storage: Storage) -> None:
    data = build({"scan": File(b"one"), "deep": {"scan": File(b"two")}}, tmp_path / "data")
    labels = build({"label": File(b"one"), "link": "label", "none": {}}, tmp_path / "labels")
    # As `get_folders_hash` of MedPerf's client does it.
    hashes = sorted(
        sha256((Path(root) / name).read_bytes()).hexdigest()
        for folder in (data, labels)
        for root, _, names in os.walk(folder)
        for name in names
    )
    assert len(hashes) == 4
    expected = sha256("".join(hashes).encode()).hexdigest()
    assert storage.fingerprints.folder_hash(data, labels) == expected
    assert storage.fingerprints.folder_hash(labels, data) == expected
    assert storage.fingerprints.folder_hash(data, labels, labels) != expected


def test_the_folder_hash_of_what_is_unchanged_is_known_unread(
    tmp_path: Path, storage: Storage, opened: list[str]
) -> None:
    data = build({"scan": File(b"one"), "deep": {"scan": File(b"two")}}, tmp_path / "data")
    settle()
    known = storage.fingerprints.folder_hash(data)
    opened.clear()
    assert storage.fingerprints.folder_hash(data) == known
    assert not [path for path in opened if path.startswith(str(data))]


@settings(max_examples=60)
@given(trees(), st.integers(1, 3))
def test_how_many_read_is_of_no_account(tree: Tree, cores: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "BATCH_FILES", 1)
        patch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
        folder = build(tree, Path(name) / "folder")

        found = Storage(Path(name) / "cache").fingerprints.digest(folder)
        assert found == tree_digest(folder)


def test_as_many_files_are_read_at_once_as_there_are_cores(
    files: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    together = threading.Barrier(4)

    def wait_for_the_others(path: str) -> None:
        if path.startswith(str(files)):
            together.wait(60)

    listen(wait_for_the_others)
    storage.fingerprints.folder_hash(files)


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> list[Helper]:
    """The processes that were started to read small files, on a machine with cores to spare."""
    started: list[Helper] = []
    start_one = Helper.__init__

    def note(helper: Helper) -> None:
        start_one(helper)
        started.append(helper)

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.setattr(Helper, "__init__", note)
    return started


def test_small_files_are_read_by_processes_that_end_with_it(
    files: Path, storage: Storage, helpers: list[Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "BATCH_FILES", 5)
    assert storage.fingerprints.digest(files) == tree_digest(files)
    assert 1 <= len(helpers) <= 3
    assert all(helper._process.returncode is not None for helper in helpers)


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_where_no_such_process_can_be_started_they_are_read_all_the_same(
    program: str,
    files: Path,
    storage: Storage,
    helpers: list[Helper],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fingerprints, "BATCH_FILES", 5)
    monkeypatch.setattr(sys, "executable", program)
    assert storage.fingerprints.digest(files) == tree_digest(files)


def test_a_file_that_no_process_can_read_is_named(
    files: Path, storage: Storage, helpers: list[Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "BATCH_FILES", 5)

    ask = Helper.digests

    def once_it_is_gone(helper: Helper, paths: Sequence[str]) -> list[str] | None:
        (files / "03").unlink(missing_ok=True)
        return ask(helper, paths)

    monkeypatch.setattr(Helper, "digests", once_it_is_gone)
    with pytest.raises(FileNotFoundError) as caught:
        storage.fingerprints.folder_hash(files)
    assert caught.value.filename == str(files / "03")


def test_progress_is_of_all_bytes_and_ends_with_them(
    files: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "TELL_SECONDS", 0)
    for changed, size in ((files / "07", 100), (files.parent / "b" / "09", 10)):
        news: list[tuple[str, int, int | None]] = []
        changed.write_bytes(b"x" * size)
        settle()
        storage.fingerprints.folder_hash(files, files.parent / "b", progress=told(news))

        both = f"hashing {files} and {files.parent / 'b'}"
        every = sum(path.stat().st_size for path in files.parent.glob("*/*"))
        assert news[-1] == (both, every, every)
        assert {what for what, _, _ in news} == {both}
        done = [bytes_done for _, bytes_done, _ in news]
        assert done == sorted(done)
        assert {total for _, _, total in news} <= {every, None}


def test_nothing_is_told_where_nothing_is_read(files: Path, storage: Storage) -> None:
    news: list[tuple[str, int, int | None]] = []
    storage.fingerprints.digest(files)
    storage.fingerprints.digest(files, told(news))
    storage.fingerprints.folder_hash(files, progress=told(news))
    assert news == []


def test_one_large_file_is_told_of_while_it_is_read(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "TELL_SECONDS", 0)
    (tmp_path / "large").write_bytes(b"x" * (3 << 20))
    news: list[tuple[str, int, int | None]] = []
    storage.fingerprints.digest(tmp_path / "large", told(news))
    assert [done for _, done, _ in news] == [1 << 20, 2 << 20, 3 << 20, 3 << 20]


def test_what_was_read_before_an_interruption_is_not_read_again(
    files: Path, storage: Storage, opened: list[str]
) -> None:
    def interrupt(path: str) -> None:
        opened.append(path)
        if path == str(files / "30"):
            raise KeyboardInterrupt

    listen(interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.fingerprints.folder_hash(files)
    before = {path for path in opened if path.startswith(str(files))} - {str(files / "30")}
    assert len(before) >= 30
    opened.clear()

    listen(opened.append)
    assert storage.fingerprints.digest(files) == tree_digest(files)
    # `tree_digest` remembers nothing, and reads all of them once. A reader may have been in one.
    again = {path for path in before if opened.count(path) > 1}
    assert len(again) <= len(os.sched_getaffinity(0))


def test_what_an_interrupted_look_did_not_come_to_stays_known(
    files: Path, storage: Storage, opened: list[str]
) -> None:
    storage.fingerprints.digest(files)
    (files / "00").write_text("changed")
    (files / "20").unlink()
    (files / "20").symlink_to("/")
    with pytest.raises(CacheError, match="20 is a link"):
        storage.fingerprints.digest(files)
    (files / "20").unlink()
    opened.clear()

    storage.fingerprints.digest(files)
    assert [path for path in opened if path.startswith(str(files))] in ([], [str(files / "00")])


def test_what_was_read_some_seconds_before_a_kill_is_not_read_again(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.setattr(fingerprints, "REMEMBER_SECONDS", 0.01)

    def remembered() -> set[str]:
        row = Storage(tmp_path / "cache")._index.get(f"fingerprint:{files}") or {}
        return {str(files / name) for name, value in row.items() if len(value) > 64}

    def work() -> None:
        def kill(path: str) -> None:
            if path == str(files / "30"):
                listen(None)
                # This file is still being read.
                while not remembered():
                    pass
                os.kill(os.getpid(), signal.SIGKILL)

        listen(kill)
        Storage(tmp_path / "cache").fingerprints.folder_hash(files)

    process = start(work)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    before = remembered()
    assert before
    opened.clear()

    Storage(tmp_path / "cache").fingerprints.folder_hash(files)
    read = {path for path in opened if path.startswith(str(files))}
    assert read == {str(path) for path in files.iterdir()} - before


def test_a_file_that_vanishes_under_the_walk_is_named(tmp_path: Path, storage: Storage) -> None:
    folder = build({"a": File(b"x"), "b": File(b"y")}, tmp_path / "folder")

    def vanish(path: str) -> None:
        if path == str(folder / "a"):
            (folder / "b").unlink()

    listen(vanish)
    with pytest.raises(FileNotFoundError) as caught:
        storage.fingerprints.digest(folder)

    assert caught.value.filename == str(folder / "b")


def test_fingerprints_of_what_is_gone_are_forgotten(tmp_path: Path, storage: Storage) -> None:
    kept, gone = (
        build({"a": File(b"x")}, tmp_path / os.fsdecode(name)) for name in (b"k", b"g\xff")
    )
    settle()
    storage.fingerprints.digest(kept)
    storage.fingerprints.digest(gone)
    (gone / "a").unlink()
    gone.rmdir()

    storage.fingerprints.forget_missing()

    assert [key for key in storage._index] == [f"fingerprint:{kept}"]
