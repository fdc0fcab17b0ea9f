"""Digests name content: the same content and no other, whenever and in whatever order it came."""

import os
import socket
import stat
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings

from medperf_cache import CacheError, NotCached, Storage, tree_digest
from medperf_cache.digests import file_digest, is_digest, leaves, place
from tests.cache.content import File, Tree, build, residue, trees

examples = settings(max_examples=60)


@examples
@given(trees())
def test_neither_order_nor_time_is_content(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        first = build(tree, Path(name) / "first")
        second = build(tree, Path(name) / "second", moment=1_700_000_000, backwards=True)

        assert tree_digest(first) == tree_digest(second)


@examples
@given(trees(), trees())
def test_folders_have_the_same_digest_only_if_they_hold_the_same(one: Tree, other: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        digests = [tree_digest(build(t, Path(name) / str(n))) for n, t in enumerate((one, other))]

        assert (digests[0] == digests[1]) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": File(b"x")}, {"a": File(b"y")}),
        ({"a": File(b"x")}, {"b": File(b"x")}),
        ({"a": File(b"x")}, {"a": File(b"x", executable=True)}),
        ({"a": File(b"x")}, {"a": File(b"x"), "empty": {}}),
        ({"a": File(b"b")}, {"a": "b"}),
        ({"a": {"b": File(b"")}, "c": File(b"")}, {"a": {}, "b": File(b""), "c": File(b"")}),
        ({"a\ndirectory b": {}}, {"a": {}, "b": {}}),
    ],
)
def test_names_kinds_and_executable_bits_are_content(
    one: Tree, other: Tree, tmp_path: Path
) -> None:
    assert tree_digest(build(one, tmp_path / "1")) != tree_digest(build(other, tmp_path / "2"))


def test_the_digest_of_a_file_is_that_of_sha256sum(tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 1)
    (tmp_path / "file").write_bytes(content)

    assert file_digest(tmp_path / "file") == sha256(content).hexdigest()


def test_a_folder_may_be_deeper_than_python_recurses(storage: Storage) -> None:
    with storage.scratch() as area:
        deep = str(area)
        for _ in range(sys.getrecursionlimit() + 100):
            deep += "/d"
            os.mkdir(deep)

        assert is_digest(tree_digest(area))
    assert residue(storage) == []


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False),
        ("a", ".", False),
        ("d/a", "../b", False),
        ("d/a", "./../b/c", False),
        ("d/a", "..", False),
        ("a", "..b", False),
        ("a", "..", True),
        ("a", "../b", True),
        ("d/a", "../../b", True),
        ("a", "/etc/passwd", True),
        ("z", "p/q/../../etc/passwd", True),
    ],
)
def test_a_link_leaves_a_folder_if_any_reading_of_it_does(
    path: str, target: str, out: bool
) -> None:
    assert leaves(path, target) is out


def test_links_that_lead_out_only_together_are_refused(tmp_path: Path) -> None:
    tree: Tree = {"p": {"q": ".."}, "z": "p/q/../secret"}
    (tmp_path / "secret").write_text("x")
    folder = build(tree, tmp_path / "folder")
    assert (folder / "z").read_text() == "x"

    with pytest.raises(CacheError, match=r"z is a link to p/q/\.\./secret"):
        tree_digest(folder)


def test_pipes_and_sockets_are_not_content(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(CacheError, match="pipe is neither a file nor a folder"):
        tree_digest(tmp_path / "folder")
    with pytest.raises(CacheError, match="pipe is neither a file nor a folder"):
        storage.fingerprints.digest(tmp_path / "folder" / "pipe")

    (tmp_path / "folder" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "folder" / "socket"))
        with pytest.raises(CacheError, match="socket is neither a file nor a folder"):
            tree_digest(tmp_path / "folder")


@pytest.mark.parametrize(
    "text", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"]
)
def test_what_is_no_digest_names_no_path(text: str, tmp_path: Path, storage: Storage) -> None:
    assert text not in storage.blobs
    assert text not in storage.trees
    with pytest.raises(NotCached, match="is not a SHA-256"):
        place(tmp_path, text)


def test_the_digest_of_a_folder_does_not_depend_on_modes_but_one(tmp_path: Path) -> None:
    folder = build({"a": File(b"x")}, tmp_path / "folder")
    before = tree_digest(folder)
    (folder / "a").chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)

    assert tree_digest(folder) == before
