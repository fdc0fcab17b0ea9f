"""A full disk: a clear error, and nothing half-written."""

import errno
import os
import resource
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from medperf_cache import CacheError, Storage
from tests.cache.content import File, archive_of, build, member, residue
from tests.cache.processes import run_together, start
from tests.support.disks import crowded, full

MIB = 1 << 20


def check_whole(storage: Storage, kept: str) -> None:
    """Only what was there before is there, whole, and there is room again."""
    assert list(storage.blobs) == [kept]
    assert list(storage.trees) == residue(storage) == []
    assert list(storage.verify()) == []
    storage.blobs.add([bytes(MIB)])


def test_a_download_that_fills_the_disk_leaves_nothing(small_disk: Path) -> None:
    storage = Storage(small_disk)
    kept = storage.blobs.add([b"kept"])

    # The last chunk fits in part: that must not pass for all of it.
    with pytest.raises(OSError, match="No space left") as caught:
        storage.blobs.add([os.urandom(3 * MIB), os.urandom(2 * MIB)])

    assert caught.value.errno == errno.ENOSPC
    check_whole(storage, kept)


def test_an_archive_that_fills_the_disk_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    storage = Storage(small_disk)
    kept = storage.blobs.add([b"kept"])
    members = [member(str(number), os.urandom(MIB)) for number in range(5)]

    with pytest.raises(CacheError, match="cannot unpack archive.tar: No space left on device"):
        storage.trees.unpack(archive_of(tmp_path / "archive.tar", *members), "0" * 64)

    check_whole(storage, kept)


def test_a_quota_met_within_the_last_chunk_is_an_error(tmp_path: Path) -> None:
    """Whoever is not root meets a limit on the size of files the same way."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB // 2, 3 * MIB // 2))
        storage = Storage(tmp_path / "cache")
        kept = storage.blobs.add([b"kept"])
        with pytest.raises(OSError, match="File too large"):
            storage.blobs.add([bytes(MIB), bytes(MIB)])
        check_whole(storage, kept)

    run_together(work)


@pytest.mark.parametrize("leaves_no_room", [full, crowded])
def test_what_makes_room_needs_none(
    small_disk: Path,
    tmp_path: Path,
    leaves_no_room: Callable[[Path], AbstractContextManager[None]],
) -> None:
    root = small_disk / "cache"

    def fill() -> None:
        storage = Storage(root)
        for name in ("a", "b"):
            storage.trees.copy(build({name: File(os.urandom(MIB))}, tmp_path / name))
        kept = storage.blobs.add([b"kept"])
        storage.pins.put("benchmark", [("blob", kept)])

    run_together(fill)
    with leaves_no_room(small_disk):
        assert len(Storage(root).gc(0)) == 2
        assert [item.kind for item in Storage(root).items()] == ["blob"]


def test_what_a_killed_gc_left_of_a_folder_is_no_content_and_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path / "cache")
    tree = storage.trees.copy(build({"a": File(b"x")}, tmp_path / "folder"))

    def killed() -> None:
        renamed = os.rename
        monkeypatch.setattr(
            os, "rename", lambda *a: (renamed(*a), os.kill(os.getpid(), signal.SIGKILL))
        )
        storage.gc(0)

    process = start(killed)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert tree not in storage.trees and list(storage.items()) == []
    (left,) = (tmp_path / "cache" / "trees").glob("??/*")
    storage.gc(0)
    assert not left.exists()
