"""Folders in the cache: whole, read-only, by content."""

import os
import stat
from pathlib import Path

import pytest

from medperf_cache import CacheError, NotCached, Storage, tree_digest
from medperf_cache.trees import lend
from tests.cache.content import File, Tree, build, pack, residue

TREE: Tree = {"a": File(b"x"), "d": {"tool": File(b"y", executable=True), "l": "../a"}, "e": {}}


def test_a_folder_that_a_step_made_is_kept_by_its_content(storage: Storage) -> None:
    with storage.scratch() as area:
        made = build(TREE, area / "output")
        digest = storage.trees.adopt(made)
        assert not made.exists()

    assert tree_digest(storage.trees.path(digest)) == digest
    assert list(storage.trees) == [digest]


def test_the_same_content_is_kept_once(storage: Storage) -> None:
    digests = set()
    for _ in range(2):
        with storage.scratch() as area:
            digests.add(storage.trees.adopt(build(TREE, area / "output")))
            assert list(area.iterdir()) == []

    assert list(storage.trees) == list(digests)


@pytest.mark.parametrize("tree", [TREE, {}])
def test_nothing_in_a_kept_folder_can_be_written(
    tree: Tree, tmp_path: Path, storage: Storage
) -> None:
    root = storage.trees.path(storage.trees.copy(build(tree, tmp_path / "folder")))

    paths = [root, *(path for path in root.rglob("*") if not path.is_symlink())]
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o222] == []


@pytest.mark.parametrize("tree", [TREE, {}])
def test_copies_of_what_is_lent_can_be_written_to(
    tree: Tree, tmp_path: Path, storage: Storage
) -> None:
    digest = storage.trees.copy(build(tree, tmp_path / "folder"))
    blob = storage.blobs.path(storage.blobs.add([b"x"]))
    for path in (storage.trees.path(digest), blob):
        lend(path)
        lend(path)
        paths = [path, *(each for each in path.rglob("*") if not each.is_symlink())]
        assert all(stat.S_IMODE(each.stat().st_mode) & 0o222 == 0o200 for each in paths)
    assert list(storage.verify()) == []
    storage.trees.remove(digest)
    assert list(storage.trees) == residue(storage) == []


def test_an_archive_is_unpacked_once(tmp_path: Path, storage: Storage) -> None:
    archive = pack(build(TREE, tmp_path / "folder"), tmp_path / "archive")
    digest = storage.trees.unpack(archive, "0" * 64)
    archive.unlink()

    assert Storage(storage.root).trees.unpack(archive, "0" * 64) == digest


def test_an_archive_is_unpacked_again_if_its_folder_is_gone(
    tmp_path: Path, storage: Storage
) -> None:
    archive = pack(build(TREE, tmp_path / "folder"), tmp_path / "archive")
    digest = storage.trees.unpack(archive, "0" * 64)
    storage.trees.remove(digest)
    assert storage.trees.unpacked("0" * 64) is None

    assert storage.trees.unpack(archive, "0" * 64) == digest
    assert digest in storage.trees


def test_a_copy_leaves_its_origin_alone(tmp_path: Path, storage: Storage) -> None:
    folder = build(TREE, tmp_path / "folder")
    before = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]

    storage.trees.copy(folder)

    unread = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    assert [(p, s.st_mode, s.st_ctime_ns) for p, s in unread] == [
        (p, s.st_mode, s.st_ctime_ns) for p, s in before
    ]


def test_a_link_in_the_place_of_an_output_touches_nothing(tmp_path: Path, storage: Storage) -> None:
    outside = build(TREE, tmp_path / "outside")
    modes = [path.lstat().st_mode for path in sorted(outside.rglob("*"))]
    with storage.scratch() as area:
        (area / "output").symlink_to(outside)
        with pytest.raises(CacheError, match="output is not a folder"):
            storage.trees.adopt(area / "output")
        (area / "file").symlink_to(outside / "a")
        with pytest.raises(CacheError, match="file is not a file"):
            storage.blobs.adopt(area / "file")

    assert [path.lstat().st_mode for path in sorted(outside.rglob("*"))] == modes


def test_an_output_with_a_link_out_is_not_kept_nor_followed(
    tmp_path: Path, storage: Storage
) -> None:
    outside = build(TREE, tmp_path / "outside")
    before = outside.stat().st_mode
    with storage.scratch() as area:
        made = build({"l": str(outside), "d": {"up": "../.."}}, area / "output")
        with pytest.raises(CacheError, match="may lead out"):
            storage.trees.adopt(made)

    assert (outside.stat().st_mode, (outside / "a").read_bytes()) == (before, b"x")
    assert list(storage.trees) == residue(storage) == []


def test_what_is_not_here_is_said_to_be_missing(storage: Storage) -> None:
    with pytest.raises(NotCached, match="folder 0{64} is not in the cache"):
        storage.trees.path("0" * 64)
    storage.trees.remove("0" * 64)


@pytest.mark.parametrize("damage", ["content", "added", "mode", "link"])
def test_verify_finds_every_kind_of_damage(damage: str, tmp_path: Path, storage: Storage) -> None:
    sound = storage.trees.copy(build({"a": File(b"z")}, tmp_path / "sound"))
    digest = storage.trees.copy(build(TREE, tmp_path / "folder"))
    root = storage.trees.path(digest)
    for folder in (root, root / "d"):
        folder.chmod(0o700)
    if damage == "content":
        (root / "a").chmod(0o600)
        (root / "a").write_bytes(b"X")
    elif damage == "added":
        (root / "d" / "__pycache__").mkdir()
    elif damage == "mode":
        (root / "a").chmod(0o755)
    else:
        (root / "out").symlink_to("/etc")

    found = list(storage.trees.verify())

    assert [(finding.kind, finding.expected) for finding in found] == [("tree", digest)]
    storage.remove("tree", digest)
    assert list(storage.verify()) == []
    assert list(storage.trees) == [sound]


def test_strangers_files_are_not_taken_for_content(storage: Storage) -> None:
    digest = storage.blobs.add([b"x"])
    (storage.blobs.path(digest).parent / ".DS_Store").write_bytes(b"?")
    (storage.root / "trees" / "aa").mkdir(parents=True)
    (storage.root / "trees" / "aa" / os.fsdecode(b"\xff")).mkdir()

    assert [item.digest for item in storage.items()] == [digest]
    assert list(storage.verify()) == []
