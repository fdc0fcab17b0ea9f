"""Disks with little room, or none; that are only read, or do not answer."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from tests.support.services import require


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


@contextmanager
def viewed(folder: Path, place: Path) -> Iterator[Path]:
    """A folder seen read-only at another place, for the block."""
    require("root", os.geteuid() == 0, "only root may mount")
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", "-o", "ro", str(folder), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def status(root: Path) -> dict[str, tuple[int, ...]]:
    """All of a folder that anybody could have changed."""
    found = {}
    for path in (root, *sorted(root.rglob("*"))):
        one = path.lstat()
        found[str(path)] = (one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)
    return found


class DeadServer:
    """A mounted file system (FUSE) whose server answers nothing, and at last goes away."""

    def __init__(self, place: Path) -> None:
        require("root", os.geteuid() == 0, "only root may mount")
        require("fuse", os.path.exists("/dev/fuse"), "there is no /dev/fuse")
        self.place, self._server = place, os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._server},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mount(b"dead", os.fsencode(place), b"fuse", 0, options)
        require("fuse", done == 0, os.strerror(ctypes.get_errno()))

    def goes(self) -> None:
        """From now on whoever waits for it is told: "Transport endpoint is not connected"."""
        os.close(self._server)

    def unmount(self) -> None:
        """Leave no mount behind."""
        with suppress(OSError):
            self.goes()
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)
