"""Zip archives keep the rules of all archives: hostile ones are refused, sound ones unpacked."""

import os
import stat
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medperf_cache import Storage, UnsafeArchive, tree_digest
from medperf_cache.archives import UnpackLimits
from tests.cache.content import (
    File,
    Tree,
    build,
    check_damaged,
    residue,
    zip_member,
    zip_of,
    zipped,
)

DIGEST = "0" * 64
LINK, FILE = stat.S_IFLNK | 0o777, stat.S_IFREG | 0o644


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A cache that many examples share."""
    return Storage(tmp_path_factory.mktemp("shared"))


def refused(storage: Storage, archive: Path, reason: str, **limits: int) -> None:
    """Unpacking fails for that reason and leaves nothing."""
    with pytest.raises(UnsafeArchive, match=reason) as caught:
        storage.trees.unpack(archive, DIGEST, UnpackLimits(**limits))
    assert str(caught.value).startswith(f"{archive.name}: ")
    assert list(storage.trees) == residue(storage) == []
    assert storage.trees.unpacked(DIGEST) is None


def test_a_zip_archive_is_the_folder_that_was_packed(tmp_path: Path, storage: Storage) -> None:
    tree: Tree = {
        "empty": {},
        "données": {"a.txt": File(b"x" * 9000), "tool": File(b"#!/bin/sh", True)},
        "latest": "données/a.txt",
        "d": {"up": "../latest"},
        # Two files wherever names are bytes, as they are here.
        "case": File(b"1"),
        "Case": File(b"2"),
        "e\u0301": File(b"3"),
        "\u00e9": File(b"4"),
    }
    folder = build(tree, tmp_path / "folder")

    digest = storage.trees.unpack(zipped(folder, tmp_path / "archive.zip"), DIGEST)

    assert digest == tree_digest(folder) == tree_digest(storage.trees.path(digest))
    assert residue(storage) == []


def test_what_a_zip_archive_unpacks_to_is_verified(tmp_path: Path, storage: Storage) -> None:
    folder = build({"a": File(b"x"), "l": "a"}, tmp_path / "folder")
    archive = storage.blobs.add([zipped(folder, tmp_path / "archive.zip").read_bytes()])

    digest = storage.trees.unpack(storage.blobs.path(archive), archive)

    assert storage.trees.unpacked(archive) == digest and list(storage.verify()) == []


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_files_without_a_mode_are_plain_files(
    method: int, tmp_path: Path, storage: Storage
) -> None:
    """As programs on Windows write them; some took backslashes for separators."""
    archive = zip_of(
        tmp_path / "archive.zip",
        (zip_member("weights\\", system=0), b""),
        (zip_member("weights\\1\\model.bin", system=0, method=method), b"x" * 5000),
        (zip_member("/absolute", system=0, method=method), b"y"),
    )

    root = storage.trees.path(storage.trees.unpack(archive, DIGEST))

    assert (root / "weights" / "1" / "model.bin").read_bytes() == b"x" * 5000
    assert (root / "absolute").read_bytes() == b"y"
    assert stat.S_IMODE((root / "absolute").stat().st_mode) == 0o444


def test_a_backslash_in_a_name_of_unix_is_one(tmp_path: Path, storage: Storage) -> None:
    archive = zip_of(tmp_path / "archive.zip", (zip_member("a\\b", FILE), b"x"))

    root = storage.trees.path(storage.trees.unpack(archive, DIGEST))

    assert [path.name for path in root.iterdir()] == ["a\\b"]


HOSTILE = {
    "a path upwards": ([(zip_member("../out"), b"x")], "'../out' goes upwards"),
    "a path upwards of Windows": ([(zip_member("..\\out", system=0), b"x")], "goes upwards"),
    "down and up": ([(zip_member("a/../b"), b"x")], "goes upwards"),
    "a link out": ([(zip_member("l", LINK), b"../out")], "'l' may lead outside, to '../out'"),
    "an absolute link": ([(zip_member("l", LINK), b"/etc")], "may lead outside, to '/etc'"),
    "a link to nothing": ([(zip_member("l", LINK), b"")], "'l' is a link to nothing"),
    "an endless link": ([(zip_member("l", LINK), b"x" * 5000)], "'l' is a link of 5000 bytes"),
    "a file through a link": (
        [(zip_member("d/"), b""), (zip_member("l", LINK), b"d"), (zip_member("l/f"), b"x")],
        "'l/f' goes through a link",
    ),
    "a file over a link": (
        [(zip_member("l", LINK), b"f"), (zip_member("l"), b"x")],
        "'l' goes through a link",
    ),
    "links that lead out together": (
        [(zip_member("p/q", LINK), b"."), (zip_member("z", LINK), b"p/q/../x")],
        "'z' may lead outside, to 'p/q/../x'",
    ),
    "a file twice": ([(zip_member("f"), b"1"), (zip_member("./f"), b"2")], "'./f' is there twice"),
    "a file as a folder": ([(zip_member("f"), b"1"), (zip_member("f/g"), b"2")], "File exists|Not"),
    "a device": ([(zip_member("zero", stat.S_IFCHR | 0o666), b"")], "'zero' is a special file"),
    "a name that no disk takes": ([(zip_member("n" * 300), b"x")], "File name too long: 'nnn"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_would_leave_its_folder_or_harm_is_refused(
    attack: str, tmp_path: Path, storage: Storage
) -> None:
    members, reason = HOSTILE[attack]

    refused(storage, zip_of(tmp_path / "archive.zip", *members), reason)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.zip", "cache"]


def test_bombs_are_bounded_in_bytes_members_and_depth(tmp_path: Path, storage: Storage) -> None:
    large = zip_of(tmp_path / "large", (zip_member("f"), bytes(2**20)))
    many = zip_of(tmp_path / "many", *((zip_member(str(n)), b"") for n in range(11)))
    deep = zip_of(tmp_path / "deep", (zip_member("d/" * 1000 + "f"), b""))
    assert large.stat().st_size < 2000

    refused(storage, large, "more than 1048575 bytes", total_bytes=2**20 - 1)
    refused(storage, many, "more than 10 members", members=10)
    refused(storage, deep, "more than 100 folders deep")


def test_a_file_larger_than_it_says_is_refused(tmp_path: Path, storage: Storage) -> None:
    archive = zip_of(tmp_path / "archive.zip", (zip_member("f"), bytes(2**20)))
    size = (2**20).to_bytes(4, "little")
    content = archive.read_bytes()
    assert content.count(size) == 2
    archive.write_bytes(content.replace(size, (10).to_bytes(4, "little")))

    refused(storage, archive, "Bad CRC-32")


def test_a_list_of_members_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, storage: Storage
) -> None:
    archive, length = tmp_path / "archive.zip", 1 << 30
    with open(archive, "wb") as file:
        file.write(b"PK\x03\x04")
        # A hole: it takes no room on the disk.
        file.truncate(length + 4)
        file.seek(length + 4)
        end = [1, 1, length, 4]
        sizes = b"".join(number.to_bytes(4 if number > 4 else 2, "little") for number in end[:2])
        file.write(b"PK\x05\x06" + bytes(4) + sizes)
        file.write(length.to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(2))
    tracemalloc.start()
    try:
        refused(storage, archive, "a list of members of 1073741824 bytes")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_an_encrypted_archive_is_called_that(tmp_path: Path, storage: Storage) -> None:
    info = zip_member("secret")
    archive = zip_of(tmp_path / "archive.zip", (info, b"x"))
    content = bytearray(archive.read_bytes())
    # The flag in the list of members (APPNOTE, 4.4.4).
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)

    refused(storage, archive, "'secret' is encrypted: pack it without a password")


def test_an_archive_cut_off_anywhere_is_refused(tmp_path: Path, storage: Storage) -> None:
    members = [(zip_member(str(number)), os.urandom(700)) for number in range(5)]
    whole = zip_of(tmp_path / "whole", *members).read_bytes()
    cut = tmp_path / "cut"
    for length in range(4, len(whole), 61):
        cut.write_bytes(whole[:length])
        refused(storage, cut, "a zip archive that is damaged or cut off: File is not a zip file")


@settings(max_examples=150)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_refused_or_harmless_but_never_a_crash(
    shared: Storage, damage: list[tuple[float, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        tree: Tree = {"a" * 120: File(b"x" * 600), "d": {"b": File(b"y"), "l": "b"}}
        archive = zipped(build(tree, Path(name) / "folder"), Path(name) / "a")
        check_damaged(shared, archive, damage, archive.stat().st_size)
