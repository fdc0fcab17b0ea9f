"""A full disk: a clear error, and nothing half-written."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from medperf_cache import CacheError, Storage
from tests.cache.content import archive_of, member, residue
from tests.cache.processes import run_together

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount_point)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield mount_point
    subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


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
