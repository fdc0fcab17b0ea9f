"""Users without root's rights: read-only folders can be kept, moved, verified and deleted."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_cache.archives import tarfile
from medperf_cache.private import Private
from medperf_cache.trees import make_writable
from tests.cache.content import File, Tree, archive_of, build, member, residue
from tests.cache.processes import NOBODY, run_unprivileged

TREE: Tree = {"a": File(b"x"), "d": {"b": File(b"y"), "deeper": {"c": File(b"z")}}}


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the unprivileged user; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="medperf-cache-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def test_a_folder_is_kept_twice_verified_and_removed(home: Path) -> None:
    def work() -> None:
        storage = Storage(home / "cache")
        first, second = (storage.trees.copy(build(TREE, home / name)) for name in "12")
        assert first == second
        with pytest.raises(PermissionError):
            (storage.trees.path(first) / "new").mkdir()
        with pytest.raises(PermissionError):
            (storage.trees.path(first) / "d" / "b").write_bytes(b"w")
        assert list(storage.verify()) == []
        storage.trees.remove(first)
        assert list(storage.trees) == residue(storage) == []

    run_unprivileged(work)


def test_a_folder_made_read_only_can_be_written_to_again_and_moved(home: Path) -> None:
    tree: Tree = {**TREE, "run": File(b"!", executable=True), "link": "a"}

    def work() -> None:
        private = Private(home / "private")
        with private.scratch() as folder:
            outputs = build(tree, folder / "outputs")
            digest = private.trees.settle(outputs)
            with pytest.raises(PermissionError):
                (outputs / "d" / "b").write_bytes(b"w")
            make_writable(outputs)
            (outputs / "d" / "new").write_bytes(b"w")
            (outputs / "d" / "new").unlink()
            (outputs / "d" / "b").write_bytes(b"y")
            assert private.trees.settle(outputs) == digest
            assert private.trees.publish(outputs, digest) == digest
        assert list(private.trees.verify()) == [] and list(private.trees) == [digest]
        assert list((home / "private" / "incoming").iterdir()) == []

    run_unprivileged(work)


def test_closed_folders_of_an_archive_do_not_hinder_what_follows(home: Path) -> None:
    def work() -> None:
        storage = Storage(home / "cache")
        archive = archive_of(
            home / "archive",
            member("d", type=tarfile.DIRTYPE, mode=0),
            member("d/r", type=tarfile.DIRTYPE, mode=0o555),
            member("d/r/f", b"x", mode=0),
            member("d/r/f", b"later", mode=0o444),
            member("d/g", b"y", mode=0o111),
        )
        root = storage.trees.path(storage.trees.unpack(archive, "0" * 64))
        assert (root / "d" / "r" / "f").read_bytes() == b"later"
        storage.gc(-1)
        assert list(storage.trees) == residue(storage) == []

    run_unprivileged(work)


def test_what_a_container_closed_to_its_owner_is_kept_all_the_same(home: Path) -> None:
    def work() -> None:
        storage = Storage(home / "cache")
        with storage.scratch() as area:
            made = build(TREE, area / "output")
            (made / "d" / "b").chmod(0)
            (made / "d" / "deeper").chmod(0)
            (made / "d").chmod(0)
            digest = storage.trees.adopt(made)
        assert digest == storage.trees.copy(build(TREE, home / "folder"))

    run_unprivileged(work)


def test_scratch_is_emptied_of_what_is_closed(home: Path) -> None:
    def work() -> None:
        storage = Storage(home / "cache")
        with storage.scratch() as area:
            made = build(TREE, area / "output")
            (made / "d" / "deeper").chmod(0)
            (made / "d").chmod(0o500)
            made.chmod(0)
        assert residue(storage) == []

    run_unprivileged(work)


def test_a_file_that_may_not_be_read_is_named(home: Path) -> None:
    def work() -> None:
        folder = build(TREE, home / "folder")
        (folder / "d" / "b").chmod(0)
        with pytest.raises(PermissionError) as caught:
            Storage(home / "cache").fingerprints.digest(folder)
        assert caught.value.filename == str(folder / "d" / "b")

    run_unprivileged(work)


def test_verify_reports_what_it_cannot_read(home: Path) -> None:
    def work() -> None:
        storage = Storage(home / "cache")
        blob = storage.blobs.add([b"x"])
        tree = storage.trees.copy(build(TREE, home / "folder"))
        storage.blobs.path(blob).chmod(0)
        (storage.trees.path(tree) / "a").chmod(0)
        assert [finding.expected for finding in storage.verify()] == [blob, tree]

    run_unprivileged(work)
