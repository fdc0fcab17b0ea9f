"""Disks with little room, or none."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB and 4000 files."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=4000", "tmpfs", str(mount_point)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield mount_point
    subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


KIB = 1 << 10


@contextmanager
def crowded(disk: Path) -> Iterator[None]:
    """Leave room for no file more on a disk for the block, whatever room there is for bytes."""
    crowd = disk / "crowd"
    crowd.mkdir()
    with suppress(OSError):
        for number in count():
            (crowd / str(number)).touch()
    try:
        yield
    finally:
        shutil.rmtree(crowd)


@contextmanager
def full(disk: Path, but_bytes: int = 0) -> Iterator[None]:
    """Leave no more than so many bytes on a disk for the block."""
    ballast = disk / "ballast"
    with suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - but_bytes)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """A disk that is mounted read-only for the block."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
