"""Archives: hostile, damaged or odd ones are refused whole; sound ones are unpacked whole."""

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medperf_cache import Storage, UnsafeArchive, tree_digest
from medperf_cache.archives import UnpackLimits
from tests.cache.content import (
    File,
    Tree,
    archive_of,
    build,
    check_damaged,
    member,
    pack,
    residue,
    trees,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DIGEST = "0" * 64
LINK, HARD, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A cache that many examples share."""
    return Storage(tmp_path_factory.mktemp("shared"))


@settings(max_examples=60)
@given(
    trees(),
    st.sampled_from(["", "gz", "bz2", "xz"]),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_an_unpacked_archive_is_the_folder_that_was_packed(
    shared: Storage, tree: Tree, compression: str, form: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = build(tree, Path(name) / "folder")
        archive = pack(folder, Path(name) / "archive", compression, form)

        digest = shared.trees.unpack(archive, uuid4().hex)

        assert digest == tree_digest(folder) == tree_digest(shared.trees.path(digest))
        assert residue(shared) == []


def refused(storage: Storage, archive: Path, reason: str, **limits: int) -> None:
    """Unpacking fails for that reason and leaves nothing."""
    with pytest.raises(UnsafeArchive, match=reason) as caught:
        storage.trees.unpack(archive, DIGEST, UnpackLimits(**limits))
    assert str(caught.value).startswith(f"{archive.name}: ")
    assert list(storage.trees) == residue(storage) == []
    assert storage.trees.unpacked(DIGEST) is None


HOSTILE = {
    "a path upwards": ([member("../out", b"x")], "outside the destination"),
    "down and up": ([member("a/../b", b"x")], "goes upwards"),
    "a link out": ([member("l", type=LINK, linkname="../out")], "outside the destination"),
    "an absolute link": ([member("l", type=LINK, linkname="/etc")], "link to an absolute path"),
    "a hard link out": ([member("l", type=HARD, linkname="../out")], "outside the destination"),
    "a hard link to nothing": ([member("l", type=HARD, linkname="f")], "'f', not a file"),
    "a hard link to itself": ([member("l", type=HARD, linkname="l")], "'l', not a file"),
    "a file through a link": (
        [member("d", type=FOLDER), member("l", type=LINK, linkname="d"), member("l/f", b"x")],
        "'l/f' goes through a link",
    ),
    "a file over a link": (
        [member("l", type=LINK, linkname="f"), member("l", b"x")],
        "'l' goes through a link",
    ),
    "a hard link through a link": (
        [
            member("d", type=FOLDER),
            member("d/f"),
            member("l", type=LINK, linkname="d"),
            member("h", type=HARD, linkname="l/f"),
        ],
        "'l' goes through a link",
    ),
    "a hard link that takes a link out": (
        [
            member("d/e", type=FOLDER),
            member("d/e/l", type=LINK, linkname="../../f"),
            member("h", type=HARD, linkname="d/e/l"),
        ],
        "'h' may lead outside, to '../../f'",
    ),
    "a file over a folder": ([member("d", type=FOLDER), member("d", b"x")], "directory: 'd'"),
    "a name that no disk takes": ([member("n" * 300, b"x")], "File name too long: 'nnn"),
    "links that lead out together": (
        [
            member("p", type=FOLDER),
            member("p/q", type=LINK, linkname="."),
            member("z", type=LINK, linkname="p/q/../x"),
        ],
        "'z' may lead outside, to 'p/q/../x'",
    ),
    "a device": ([member("zero", type=tarfile.CHRTYPE, devmajor=1, devminor=5)], "special file"),
    "a pipe": ([member("pipe", type=tarfile.FIFOTYPE)], "special file"),
    "a negative size": ([member("f"), member("g", size=-512, type=b"Z")], "a size of -512 bytes"),
    "a huge header": (
        [member("f"), member("h", b"6 a=b\n" * 200_000, type=tarfile.XGLTYPE)],
        "a header of 1200000 bytes",
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_would_leave_its_folder_or_harm_is_refused(
    attack: str, tmp_path: Path, storage: Storage
) -> None:
    members, reason = HOSTILE[attack]

    refused(storage, archive_of(tmp_path / "archive.tar", *members), reason)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar", "cache"]


def test_the_chain_of_links_that_fooled_tarfile_is_refused(
    tmp_path: Path, storage: Storage
) -> None:
    """CVE-2025-4517: a path too long for `realpath` hides where the last link leads."""
    # Short enough to be made in any folder, and too long with the last link in each.
    long, members, path = "d" * 240, [], ""
    for step in "abcdefghijklmnop":
        members.append(member(os.path.join(path, long), type=FOLDER))
        members.append(member(os.path.join(path, step), type=LINK, linkname=long))
        path = os.path.join(path, long)
    last = os.path.join("/".join("abcdefghijklmnop"), "l" * 254)
    members.append(member(last, type=LINK, linkname="../" * 16))
    members.append(member("escape", type=LINK, linkname=f"{last}/../../../../{tmp_path.name}"))
    members.append(member("escape/owned", b"x"))

    refused(storage, archive_of(tmp_path / "archive.tar", *members), "goes through a link")

    assert not (tmp_path / "owned").exists()


def test_absolute_paths_are_taken_as_relative_ones(tmp_path: Path, storage: Storage) -> None:
    archive = archive_of(tmp_path / "archive.tar", member("/a/b", b"x"))

    assert storage.trees.unpack(archive, DIGEST) == tree_digest(
        build({"a": {"b": File(b"x")}}, tmp_path / "folder")
    )


def test_bombs_are_bounded_in_bytes_members_and_depth(tmp_path: Path, storage: Storage) -> None:
    large = archive_of(tmp_path / "large", member("f", bytes(2**20)), compression="xz")
    many = archive_of(tmp_path / "many", *(member(str(n)) for n in range(11)))
    deep = archive_of(tmp_path / "deep", member("d/" * 1000 + "f"))
    padded = tmp_path / "padded"
    padded.write_bytes(gzip.compress(archive_of(tmp_path / "f").read_bytes() + bytes(2**21)))
    assert large.stat().st_size < 1000

    refused(storage, large, "more than 1048575 bytes", total_bytes=2**20 - 1)
    refused(storage, padded, "more than 1048576 bytes", total_bytes=2**20)
    refused(storage, many, "more than 10 members", members=10)
    refused(storage, deep, "more than 100 folders deep")


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
def test_an_archive_cut_off_anywhere_is_refused(
    compression: str, tmp_path: Path, storage: Storage
) -> None:
    members = [member(str(number), os.urandom(700)) for number in range(5)]
    if compression == "zst":
        whole = zstd.compress(archive_of(tmp_path / "plain", *members).read_bytes())
    else:
        whole = archive_of(tmp_path / "whole", *members, compression=compression).read_bytes()
    # A plain archive is whole once its end is marked; what follows is padding.
    end = len(whole) if compression else 5 * 3 * 512
    cut = tmp_path / "cut"
    for length in range(0, end, 97 if compression else 256):
        cut.write_bytes(whole[:length])
        refused(storage, cut, "not a tar archive|damaged or cut off|unexpected end|ended before")


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path, storage: Storage) -> None:
    content = bytearray(
        archive_of(tmp_path / "archive", member("a", b"x"), member("b", b"y")).read_bytes()
    )
    content[1024 + 150] ^= 1  # the checksum of the second member
    (tmp_path / "archive").write_bytes(content)

    refused(storage, tmp_path / "archive", "damaged or cut off: bad checksum")


def test_a_compressed_archive_with_anything_behind_it_is_refused(
    tmp_path: Path, storage: Storage
) -> None:
    archive = archive_of(tmp_path / "archive.tar.gz", member("a", b"x"), compression="gz")
    archive.write_bytes(archive.read_bytes() + b"garbage")

    refused(storage, archive, "Not a gzipped file")


@pytest.mark.parametrize(
    ("content", "called"),
    [
        (b"", ": it is an empty file"),
        (b"x", ", or damaged"),
        (bytes(100), ", or damaged"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><title>Accept our terms</title>", ": it is a web page"),
        (b"<!-- -->\n<html>captive portal</html>" * 100, ": it is a web page"),
        (b"<?xml version='1.0'?><Error>", ": it is an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid", ": it is a Git LFS pointer, not the"),
        (gzip.compress(b"one file", mtime=0), ": it is compressed with gzip"),
        (b"7z\xbc\xaf\x27\x1c\0\4", ": it is a 7z archive"),
    ],
)
def test_what_is_no_archive_is_called_what_it_is(
    content: bytes, called: str, tmp_path: Path, storage: Storage
) -> None:
    (tmp_path / "file").write_bytes(content)

    form = r"not a tar archive \(plain, gzip, bzip2, xz or zstd\)"
    refused(storage, tmp_path / "file", form + called)


def test_an_archive_is_refused_by_the_name_that_people_know(
    tmp_path: Path, storage: Storage
) -> None:
    (tmp_path / DIGEST).write_bytes(b"<html>")

    with pytest.raises(UnsafeArchive) as caught:
        storage.trees.unpack(tmp_path / DIGEST, DIGEST, name="https://example.org/weights")
    assert str(caught.value).startswith("https://example.org/weights: not a tar archive")
    assert DIGEST not in str(caught.value)


@settings(max_examples=150)
@given(
    st.sampled_from(["", "gz", "bz2", "xz"]),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_is_refused_or_harmless_but_never_a_crash(
    shared: Storage, compression: str, form: int, damage: list[tuple[float, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        tree: Tree = {"a" * 120: File(b"x" * 600), "d": {"b": File(b"y"), "l": "b"}}
        archive = pack(build(tree, Path(name) / "folder"), Path(name) / "a", compression, form)
        # Headers and data, not the padding behind them.
        check_damaged(shared, archive, damage, 6000)


def test_modes_in_an_archive_hinder_nothing_and_grant_nothing(
    tmp_path: Path, storage: Storage
) -> None:
    archive = archive_of(
        tmp_path / "archive",
        member("closed", type=FOLDER, mode=0),
        member("closed/file", b"x", mode=0),
        member("read-only", type=FOLDER, mode=0o555),
        member("read-only/tool", b"x", mode=0o6777),
        member("sticky", type=FOLDER, mode=0o7777),
    )
    root = storage.trees.path(storage.trees.unpack(archive, DIGEST))

    modes = {str(p.relative_to(root)): stat.S_IMODE(p.stat().st_mode) for p in root.rglob("*")}
    assert modes == {
        "closed": 0o555,
        "closed/file": 0o444,
        "read-only": 0o555,
        "read-only/tool": 0o555,
        "sticky": 0o555,
    }


@pytest.mark.parametrize("moment", [-1.0e300, 2.0**70, float("nan"), -1.0])
def test_impossible_times_do_not_matter(moment: float, tmp_path: Path, storage: Storage) -> None:
    info, content = member("f", b"x")
    info.pax_headers = {"mtime": str(moment)}
    archive = archive_of(tmp_path / "archive", (info, content))

    storage.trees.unpack(archive, DIGEST)


def test_a_hard_link_to_a_link_is_that_link_again(tmp_path: Path, storage: Storage) -> None:
    """GNU tar writes one where two names had one link, as in copies made by `cp -al`."""
    (tmp_path / "field").mkdir()
    (tmp_path / "field" / "file").write_bytes(b"x")
    (tmp_path / "field" / "link").symlink_to("file")
    os.link(tmp_path / "field" / "link", tmp_path / "field" / "name", follow_symlinks=False)
    archive = tmp_path / "archive.tar"
    subprocess.run(
        ["tar", "-cf", archive, "-C", tmp_path / "field", "file", "link", "name"], check=True
    )
    with tarfile.open(archive) as tar:
        assert tar.getmember("name").islnk() and tar.getmember("name").linkname == "link"

    assert storage.trees.unpack(archive, DIGEST) == tree_digest(
        build({"file": File(b"x"), "link": "file", "name": "file"}, tmp_path / "folder")
    )


def test_an_archive_compressed_with_zstd_is_unpacked(tmp_path: Path, storage: Storage) -> None:
    tree: Tree = {"a": File(b"x" * 5000), "d": {"b": File(b"y", True), "l": "b"}}
    folder = build(tree, tmp_path / "folder")
    archive = tmp_path / "archive.tar.zst"
    # Two frames, as programs write that compress on many cores.
    plain = pack(folder, tmp_path / "plain").read_bytes()
    archive.write_bytes(zstd.compress(plain[:700]) + zstd.compress(plain[700:]))

    assert storage.trees.unpack(archive, DIGEST) == tree_digest(folder)


def test_zstd_that_asks_for_too_much_memory_is_refused(tmp_path: Path, storage: Storage) -> None:
    archive = tmp_path / "archive.tar.zst"
    # A frame's header that asks for a window of 2 GiB (RFC 8878, section 3.1.1.1.2).
    archive.write_bytes(b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(100))

    refused(storage, archive, "too much memory|Frame requires")


def test_hard_links_within_an_archive_are_files(tmp_path: Path, storage: Storage) -> None:
    archive = archive_of(
        tmp_path / "archive", member("a", b"x"), member("b", type=HARD, linkname="a")
    )

    assert storage.trees.unpack(archive, DIGEST) == tree_digest(
        build({"a": File(b"x"), "b": File(b"x")}, tmp_path / "folder")
    )


def test_sparse_files_are_unpacked_and_counted_at_full_size(
    tmp_path: Path, storage: Storage
) -> None:
    """GNU sparse 1.0, as `tar --sparse` writes it: the data begin with the map of what is there."""
    info, content = member("f", b"1\n1048575\n1\n".ljust(512, b"\0") + b"x")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "f",
        "GNU.sparse.realsize": "1048576",
    }
    archive = archive_of(tmp_path / "archive", (info, content))

    refused(storage, archive, "more than 1048575 bytes", total_bytes=2**20 - 1)
    digest = storage.trees.unpack(archive, DIGEST)
    assert (storage.trees.path(digest) / "f").read_bytes() == bytes(2**20 - 1) + b"x"


def test_headers_upon_headers_are_refused(tmp_path: Path, storage: Storage) -> None:
    header = io.BytesIO()
    with tarfile.open(fileobj=header, mode="w") as tar:
        info, content = member("h", b"7 a=bc\n", type=tarfile.XHDTYPE)
        tar.addfile(info, io.BytesIO(content))
    (tmp_path / "archive").write_bytes(header.getvalue()[:1024] * 5000)

    refused(storage, tmp_path / "archive", "recursion|not a tar archive")
