"""A cache that can only be read: all of it is read, and another stands in for what has to write."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_cache import NotCached, Storage, tree_digest
from medperf_cache.disk import open_store
from medperf_cache.errors import NotWritable
from medperf_cache.scratch import TEMPORARY
from tests.cache.content import LAYER, File, Tree, archive, build, pack
from tests.cache.processes import NOBODY, run_together, run_unprivileged, start
from tests.support.disks import read_only, status

CONFIG = b"{}"
IMAGE = sha256(CONFIG).hexdigest()
TREE: Tree = {"a": File(b"x"), "d": {"b": File(b"y")}}


@pytest.fixture(autouse=True)
def work_area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, of which nothing is left in the end but what was there."""
    area = tmp_path / "temporary"
    area.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(area))
    yield area
    left = [path.name for path in area.iterdir() if path.name.startswith(TEMPORARY)]
    assert all(name.startswith(f"{TEMPORARY}of-others") for name in left), left


def filled(root: Path) -> tuple[str, str, str]:
    """Put an archive, its folder, an image, and a step in a cache; the digests of the first three.

    It is done in another process, which lets go of all its files.
    """

    def fill() -> None:
        storage = Storage(root)
        packed = pack(build(TREE, root.parent / "folder"), root.parent / "archive.tar")
        with open(packed, "rb") as file:
            blob = storage.blobs.add(file)
        tree = storage.trees.unpack(packed, blob)
        storage.images.add(IMAGE, [archive(CONFIG, LAYER)])
        storage.memo.put("step", {"outputs": {"o": ["directory", tree]}})
        storage.pins.put("pin", [("blob", blob)])

    run_together(fill)
    packed = (root.parent / "archive.tar").read_bytes()
    return sha256(packed).hexdigest(), tree_digest(root.parent / "folder"), IMAGE


def check_read(root: Path, blob: str, tree: str) -> None:
    """All of a cache is there to be read."""
    storage = Storage(root)
    assert not storage.is_writable
    assert {blob, tree, *storage.images.parts(IMAGE)} == {one.digest for one in storage.items()}
    assert storage.trees.unpacked(blob) == tree and storage.memo.get("step") is not None
    assert storage.fingerprints.digest(storage.trees.path(tree)) == tree
    assert list(storage.verify()) == []
    with pytest.raises(NotWritable, match="can only be read"):
        storage.names.put("a", "b")
    with pytest.raises(OSError):
        storage.blobs.add([b"more"])


def check_stand_in(root: Path, blob: str, tree: str, more: Path) -> None:
    """What stands in for a cache has what that has, and keeps what is stored while it lasts."""
    with Storage(root).stand_in() as storage:
        assert storage.is_writable and not storage.root.is_relative_to(root)
        assert storage.blobs.path(blob).is_relative_to(root) and storage.keeps(
            storage.blobs.path(blob)
        )
        assert storage.trees.unpack(storage.blobs.path(blob), blob) == tree
        assert storage.memo.get("step") is not None and storage.pins.get("pin") == [("blob", blob)]
        assert b"".join(storage.images.read(IMAGE)) == archive(CONFIG, LAYER)
        storage.images.name("any", IMAGE)
        assert storage.images.copied("any") == IMAGE
        added = storage.blobs.add([b"more"])
        made = storage.trees.copy(build({"new": File(b"1")}, more))
        storage.memo.put("another", {"outputs": {"o": ["directory", made]}})
        assert added in storage.blobs and made in storage.trees and storage.memo.get("another")
        assert {item.digest for item in storage.items()} == {added, made}
        assert storage.keeps(storage.trees.path(made))
        with storage.in_use():
            pass
    assert not storage.root.exists()


def test_what_is_read_and_what_stands_in(small_disk: Path, tmp_path: Path) -> None:
    root = small_disk / "cache"
    blob, tree, _ = filled(root)
    before = status(root)
    with read_only(small_disk):
        check_read(root, blob, tree)
        check_stand_in(root, blob, tree, tmp_path / "more")
        check_stand_in(root, blob, tree, tmp_path / "once more")
        assert Storage(root).memo.get("another") is None
    assert status(root) == before


def test_a_cache_of_another_user_is_only_read_too() -> None:
    with tempfile.TemporaryDirectory(prefix="medperf-cache-", dir="/tmp") as name:
        folder, work = Path(name), Path(name) / "work"
        folder.chmod(0o755)
        work.mkdir()
        if os.geteuid() == 0:
            os.chown(work, NOBODY, NOBODY)
        blob, tree, _ = filled(folder / "cache")
        for path in (folder / "cache").rglob("*"):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        for path in (folder / "cache", *(folder / "cache").rglob("*")):
            if os.geteuid() != 0 and not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
        (folder / "cache").chmod(0o555)

        def read() -> None:
            tempfile.tempdir = str(work)
            check_read(folder / "cache", blob, tree)
            check_stand_in(folder / "cache", blob, tree, work / "more")

        run_unprivileged(read)


def test_what_a_killed_process_noted_last_is_in_the_stand_in(
    small_disk: Path, tmp_path: Path
) -> None:
    root = small_disk / "cache"
    filled(root)

    def note() -> None:
        Storage(root).names.put("last", "0" * 64)
        os.kill(os.getpid(), 9)

    process = start(note)
    process.join()
    log = root / "memo" / "cache.db-wal"
    assert log.stat().st_size > 0
    (root / "memo" / "cache.db-shm").unlink()
    with read_only(small_disk):
        assert Storage(root).names.get("last") == "0" * 64
        with Storage(root).stand_in() as storage:
            assert storage.names.get("last") == "0" * 64
            storage.names.put("last", "1" * 64)
            assert storage.names.get("last") == "1" * 64
    assert Storage(root).names.get("last") == "0" * 64


def test_where_nothing_ever_was_an_empty_one_stands_in(small_disk: Path) -> None:
    with read_only(small_disk), Storage(small_disk / "cache").stand_in() as storage:
        assert list(storage.items()) == [] and storage.memo.get("step") is None
        digest = storage.blobs.add([b"x"])
        storage.names.put("x", digest)
        assert storage.names.get("x") == digest
        with pytest.raises(NotCached):
            storage.blobs.path("0" * 64)


def test_several_stand_in_at_once_and_a_shared_cache_is_asked_after(
    small_disk: Path, tmp_path: Path
) -> None:
    root, other = small_disk / "cache", Storage(tmp_path / "other")
    blob, _, _ = filled(root)
    theirs = other.blobs.add([b"theirs"])
    told: list[str] = []
    with read_only(small_disk):
        frozen = Storage(root, [other.root], told.append)
        assert theirs in frozen.blobs
        with frozen.stand_in() as first, frozen.stand_in() as second:
            assert first.root != second.root
            for one in (first, second):
                assert one.blobs.path(theirs).is_relative_to(other.root)
                assert one.blobs.path(blob).is_relative_to(root)
                assert not one.keeps(one.blobs.path(theirs))
    assert told == []


def test_a_store_is_copied_while_others_write_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    open_store(folder)["0"] = 0

    def write() -> None:
        store = open_store(folder)
        for number in range(300):
            with store.transact():
                store["a"] = store["b"] = number

    def copy() -> None:
        for number in range(20):
            place = tmp_path / f"{os.getpid()}-{number}"
            open_store(folder).copy_to(place)
            copied = open_store(place)
            assert copied.get("a") == copied.get("b")
            assert sqlite3.connect(place / "cache.db").execute("PRAGMA quick_check").fetchone() == (
                "ok",
            )

    run_together(write, copy, copy)


def test_folders_of_others_among_temporary_files_are_left_alone(
    work_area: Path, tmp_path: Path, small_disk: Path
) -> None:
    mine, theirs = work_area / f"{TEMPORARY}dead", work_area / f"{TEMPORARY}of-others"
    link, file = work_area / f"{TEMPORARY}of-others-link", work_area / f"{TEMPORARY}of-others-file"
    kept = build(TREE, tmp_path / "kept")
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "content").touch()
    link.symlink_to(kept)
    file.touch()
    if os.geteuid() == 0:
        os.chown(theirs, NOBODY, NOBODY)
    with read_only(small_disk), Storage(small_disk / "cache").stand_in():
        assert not mine.exists()
        assert (theirs / "content").exists() and (kept / "a").exists() and file.exists()
