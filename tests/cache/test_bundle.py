"""A bundle brings all of it or, damaged or hostile, nothing."""

import io
import json
import os
import resource
import tarfile
import tempfile
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medperf_cache import CacheError, CorruptContent, Storage, UnsafeArchive, digests
from medperf_cache.bundle import Head, Manifest, document, read_head, verified, write
from medperf_cache.bundle.background import MOST_WAITING, ahead
from medperf_cache.bundle.manifest import FORMAT, Document, TreeSize
from medperf_cache.bundle.zstd import zstd
from tests.cache.content import File, Tree, build, member, residue, trees
from tests.cache.processes import run_together

Members = list[tuple[tarfile.TarInfo, bytes]]
CONTENT = b"some content" * 1000
DIGEST = sha256(CONTENT).hexdigest()


def accept(head: Head) -> None:
    """Want any bundle."""


SIGNER = "5" * 64


def take(file: Path, storage: Storage) -> None:
    """Import a bundle of somebody whose word counts."""
    with verified(file, storage, accept) as bundle:
        bundle.add_content()
        bundle.add_results(SIGNER)


def held(storage: Storage) -> set[tuple[str, str]]:
    """All that a cache holds."""
    content = {(item.kind, item.digest) for item in storage.items()}
    memo = {("memo", key) for key, _ in storage.memo.items()}
    return content | memo | {("name", name) for name, _ in storage.names.items()}


def forged(
    file: Path,
    members: Members,
    manifest: Any = None,
    blobs: dict[str, int] | None = None,
    trees: dict[str, TreeSize] | None = None,
    documents: dict[str, Document] | None = None,
) -> Path:
    """A bundle made by hand: any members behind any manifest."""
    given = Manifest({}, documents or {}, blobs or {}, trees or {}, [])
    data = manifest if isinstance(manifest, bytes) else given.encoded()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in [member("manifest.json", data), *members]:
            tar.addfile(info, io.BytesIO(content))
    file.write_bytes(zstd.compress(raw.getvalue()))
    return file


@pytest.fixture
def refuses(storage: Storage) -> Callable[[Path], str]:
    """Takes a bundle that must be refused, and change nothing; returns what was said of it."""
    storage.blobs.add([b"mine"])
    storage.names.put("mine", "0" * 64)
    before = held(storage)

    def refuse(file: Path) -> str:
        with pytest.raises(CacheError) as caught:
            take(file, storage)
        assert held(storage) == before
        assert list(storage.verify()) == [] and residue(storage) == []
        return str(caught.value)

    return refuse


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of a file, a folder, a name and a memo record."""
    source = Storage(tmp_path / "source")
    blob = source.blobs.add([CONTENT])
    folder = build({"a": File(b"a", True), "d": {"b": File(b"b")}, "l": "d/b"}, tmp_path / "folder")
    tree = source.trees.copy(folder)
    record = {"outputs": {"o": ["directory", tree]}, "seconds": 1.5}
    documents = {
        "names": document(tmp_path / "names", [["http://host/file", blob]]),
        "memo": document(tmp_path / "memo", [["1" * 64, record]]),
    }
    write(tmp_path / "bundle", source, {"made": "here"}, documents, [blob, tree])
    return tmp_path / "bundle"


def test_what_is_packed_comes_out(bundle: Path, storage: Storage) -> None:
    take(bundle, storage)
    head = read_head(bundle)
    assert head.manifest.about == {"made": "here"} and head.signature is None
    assert {digest for kind, digest in held(storage) if kind in ("blob", "tree")} == (
        head.manifest.content
    )
    assert storage.names.get("http://host/file") == DIGEST
    record = storage.memo.get("1" * 64)
    assert record is not None and record["seconds"] == 1.5 and record["signed_by"] == SIGNER
    assert list(storage.verify()) == [] and residue(storage) == []


def test_without_somebody_s_word_only_content_comes_out(bundle: Path, storage: Storage) -> None:
    with verified(bundle, storage, accept) as found:
        found.add_content()
    assert {kind for kind, _ in held(storage)} == {"blob", "tree"}


def test_what_can_be_derived_is_taken_from_nobody(tmp_path: Path, storage: Storage) -> None:
    source = Storage(tmp_path / "source")
    forged = source.trees.copy(build({"weights": File(b"forged")}, tmp_path / "folder"))
    archive, image = "a" * 64, "b" * 64
    recipe = source.blobs.add([b'{"format": 1, "pieces": []}'])
    rows = [[archive, forged], [f"unpacked:{archive}", forged], [f"image:{image}", recipe]]
    rows += [[f"converted:{image}", forged]]
    names = document(tmp_path / "names", rows)
    write(tmp_path / "bundle", source, {}, {"names": names}, [forged, recipe])
    take(tmp_path / "bundle", storage)
    assert storage.trees.unpacked(archive) is None and image not in storage.images
    for prefix in ("unpacked:", "image:", "converted:"):
        assert list(storage.names.items(prefix)) == []


def test_which_image_a_digest_means_is_taken_only_from_who_is_trusted(
    tmp_path: Path, storage: Storage
) -> None:
    manifest, image = "a" * 64, "b" * 64
    names = document(tmp_path / "names", [[f"image-id:{manifest}", image]])
    write(tmp_path / "bundle", storage, {}, {"names": names})
    with verified(tmp_path / "bundle", storage, accept) as bundle:
        bundle.add_content()
    assert storage.images.id_of(manifest) is None
    take(tmp_path / "bundle", storage)
    assert storage.images.id_of(manifest) == image


@given(trees(), st.lists(st.binary(max_size=99), max_size=3))
@settings(max_examples=40)
def test_any_folder_and_any_files_come_out(tree: Tree, contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, target = Storage(folder / "source"), Storage(folder / "target")
        packed = {source.trees.copy(build(tree, folder / "folder"))}
        packed |= {source.blobs.add([content]) for content in contents}
        write(folder / "bundle", source, {}, {}, packed)
        take(folder / "bundle", target)
        assert {item.digest for item in target.items()} == packed
        assert list(target.verify()) == []


def test_what_is_here_already_stays_as_it_is(bundle: Path, storage: Storage) -> None:
    storage.names.put("http://host/file", "2" * 64)
    take(bundle, storage)
    take(bundle, storage)
    assert storage.names.get("http://host/file") == "2" * 64
    assert list(storage.verify()) == []


def test_a_record_is_taken_only_with_what_it_names(tmp_path: Path, storage: Storage) -> None:
    record = {"outputs": {"o": ["file", "3" * 64]}, "seconds": 1}
    documents = {"memo": document(tmp_path / "memo", [["1" * 64, record]])}
    write(tmp_path / "bundle", storage, {}, documents)
    take(tmp_path / "bundle", storage)
    assert storage.memo.get("1" * 64) is None


def test_who_does_not_want_a_bundle_gets_nothing_of_it(bundle: Path, storage: Storage) -> None:
    def refuse(head: Head) -> None:
        raise PermissionError("not signed")

    with pytest.raises(PermissionError), verified(bundle, storage, refuse):
        pytest.fail("it was accepted")
    assert held(storage) == set()


def test_no_thread_outlives_a_bundle_however_it_ends(bundle: Path, storage: Storage) -> None:
    def refuse(head: Head) -> None:
        raise PermissionError

    before = threading.enumerate()
    read_head(bundle)
    take(bundle, storage)
    with pytest.raises(PermissionError), verified(bundle, storage, refuse):
        pytest.fail("it was accepted")
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(UnsafeArchive):
        take(bundle, storage)
    assert threading.enumerate() == before


class Counted:
    """Gives the number of each read, but raises at one of them."""

    def __init__(self, wrong: int) -> None:
        self.reads, self._wrong = 0, wrong

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads == self._wrong:
            raise OSError("the medium was pulled out")
        return bytes([self.reads])


def test_reading_ahead_keeps_the_order_and_goes_no_further_than_it_may() -> None:
    source, wanted = Counted(wrong=0), 2 * MOST_WAITING
    with ahead(source) as reading:
        assert [reading.read(1)[0] for _ in range(wanted)] == list(range(1, wanted + 1))
    assert source.reads <= wanted + MOST_WAITING


def test_what_could_not_be_read_ahead_is_told_when_it_is_asked_for_and_ever_after() -> None:
    with ahead(Counted(wrong=2)) as reading:
        assert reading.read(1) == b"\1"
        for _ in range(2):
            with pytest.raises(OSError, match="pulled out"):
                reading.read(1)


class Watching:
    """Notes what it hears of a file, and objects to one moment."""

    def __init__(self, folder: Path, against: str = "") -> None:
        self.folder, self.against = folder, against
        self.heard: list[tuple[str, object, int]] = []

    def begin(self, contents: bytes) -> None:
        self._hear("begin", contents)

    def seal(self, digest: str, size_bytes: int) -> None:
        self._hear("seal", (digest, size_bytes))

    def _hear(self, moment: str, what: object) -> None:
        written = sum(path.stat().st_size for path in self.folder.iterdir())
        self.heard.append((moment, what, written))
        if moment == self.against:
            raise CacheError("no room for a line")


def test_who_watches_hears_of_a_bundle_before_its_first_byte_and_before_its_name(
    tmp_path: Path, storage: Storage
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    watch = Watching(out)
    content = [storage.blobs.add([os.urandom(1000)])]
    head = write(out / "a.bundle", storage, {}, {}, content, watch=watch)
    data = (out / "a.bundle").read_bytes()
    assert watch.heard == [
        ("begin", head.data, 0),
        ("seal", (sha256(data).hexdigest(), len(data)), len(data)),
    ]
    for moment in ("begin", "seal"):
        with pytest.raises(CacheError, match="no room for a line"):
            write(out / "b.bundle", storage, {}, {}, content, watch=Watching(out, moment))
        assert [path.name for path in out.iterdir()] == ["a.bundle"]


def test_a_signature_is_that_of_the_manifest(tmp_path: Path, storage: Storage) -> None:
    made = write(tmp_path / "b", storage, {}, {}, sign=lambda data: sha256(data).digest() * 2)
    head = read_head(tmp_path / "b")
    assert head.signature == sha256(head.data).digest() * 2 and head == made
    take(tmp_path / "b", storage)


def test_a_file_that_changes_while_it_is_packed_is_refused(bundle: Path, tmp_path: Path) -> None:
    source, earlier = Storage(tmp_path / "source"), bundle.read_bytes()
    path = source.blobs.path(DIGEST)
    path.chmod(0o600)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(CorruptContent, match=DIGEST):
        write(bundle, source, {}, {}, [DIGEST])
    assert bundle.read_bytes() == earlier
    assert [path.name for path in tmp_path.glob("*bundle*")] == ["bundle"]


@pytest.mark.parametrize(
    ("content", "called"), [(b"PK\3\4", "a zip archive"), (b"<html>", "a web page"), (b"", "empty")]
)
def test_what_is_no_bundle_is_called_what_it_is(
    bundle: Path, refuses: Callable[[Path], str], content: bytes, called: str
) -> None:
    bundle.write_bytes(content)
    assert called in refuses(bundle)


def test_a_bundle_that_was_cut_off_anywhere_is_refused(
    bundle: Path, refuses: Callable[[Path], str]
) -> None:
    whole = bundle.read_bytes()
    for length in [*range(0, len(whole), 37), *range(len(whole) - 12, len(whole))]:
        bundle.write_bytes(whole[:length])
        assert "is no bundle, or is damaged" in refuses(bundle)


@pytest.mark.parametrize(
    "tail",
    [
        b"x",
        b"\0" * 512,
        zstd.compress(b""),
        zstd.compress(b"\0" * 512),
        b"\x50\x2a\x4d\x18\0\0\0\0",
    ],
)
def test_a_bundle_with_something_behind_it_is_refused(
    bundle: Path, refuses: Callable[[Path], str], tail: bytes
) -> None:
    bundle.write_bytes(bundle.read_bytes() + tail)
    assert "something follows its end" in refuses(bundle)


@pytest.mark.parametrize("tail", [b"x", b"\0" * 20480, b"\0" * 512 + b"x"])
def test_an_archive_with_something_behind_it_is_refused(
    bundle: Path, refuses: Callable[[Path], str], tail: bytes
) -> None:
    bundle.write_bytes(zstd.compress(zstd.decompress(bundle.read_bytes()) + tail))
    assert "something follows its end" in refuses(bundle)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a file and a folder."""
    folder = tmp_path_factory.mktemp("small")
    source = Storage(folder / "source")
    tree = source.trees.copy(build({"a": File(b"a")}, folder / "t"))
    write(folder / "bundle", source, {}, {}, [source.blobs.add([CONTENT]), tree])
    return folder / "bundle"


@given(data=st.data())
@settings(max_examples=150)
def test_a_bundle_with_a_changed_byte_is_refused_or_means_the_same(
    small: Path, data: st.DataObject
) -> None:
    packed = read_head(small).manifest.content
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        target = Storage(folder / "target")
        changed = bytearray(small.read_bytes())
        if data.draw(st.booleans()):
            # Inside, where no checksum of the compression protects it.
            changed = bytearray(zstd.decompress(bytes(changed)))
        inside = changed[:4] != zstd.compress(b"")[:4]
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (folder / "bundle").write_bytes(zstd.compress(bytes(changed)) if inside else changed)
        try:
            take(folder / "bundle", target)
        except CacheError:
            assert held(target) == set()
        else:
            assert {item.digest for item in target.items()} == packed
        assert list(target.verify()) == [] and residue(target) == []


def test_what_is_no_bundle_is_refused(tmp_path: Path, refuses: Callable[[Path], str]) -> None:
    file = tmp_path / "file"
    for content in (b"", b"x" * 1000, zstd.compress(b""), zstd.compress(b"x" * 1000)):
        file.write_bytes(content)
        refuses(file)
    with tarfile.open(file, "w") as tar:
        tar.addfile(*[member("manifest.json")[0]])
    refuses(file)


BLOB = f"blobs/{DIGEST}"
WRONG: dict[str, Members] = {
    "a path upwards": [member(f"blobs/../{BLOB}", CONTENT)],
    "an absolute path": [member(f"/{BLOB}", CONTENT)],
    "a link": [member(BLOB, type=tarfile.SYMTYPE, linkname="/etc/passwd")],
    "a hard link": [member(BLOB, type=tarfile.LNKTYPE, linkname="manifest.json")],
    "a device": [member(BLOB, type=tarfile.CHRTYPE)],
    "a pipe": [member(BLOB, type=tarfile.FIFOTYPE)],
    "a folder": [member(BLOB, type=tarfile.DIRTYPE)],
    "a wrong digest": [member(BLOB, CONTENT[::-1])],
    "too few bytes": [member(BLOB, CONTENT[:-1])],
    "too many bytes": [member(BLOB, CONTENT + b"x")],
    "the same twice": [member(BLOB, CONTENT), member(BLOB, CONTENT)],
    "something else": [member(BLOB, CONTENT), member("trees/x", b"x")],
    "another first": [member("else", b"x"), member(BLOB, CONTENT)],
    "nothing": [],
    "two manifests": [member("manifest.json", b"{}"), member(BLOB, CONTENT)],
    "a long signature": [member("signature", b"x" * 65), member(BLOB, CONTENT)],
    "two signatures": [member("signature", b"x"), member("signature", b"x"), member(BLOB, CONTENT)],
    "a sparse file": [
        member(
            BLOB,
            CONTENT,
            pax_headers={"GNU.sparse.map": f"0,{len(CONTENT)}", "GNU.sparse.size": "99999999"},
        )
    ],
    "a size below zero": [member(BLOB, CONTENT, pax_headers={"size": "-1"})],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_members_that_the_manifest_does_not_name_are_refused(
    tmp_path: Path, refuses: Callable[[Path], str], wrong: str
) -> None:
    refuses(forged(tmp_path / "forged", WRONG[wrong], blobs={DIGEST: len(CONTENT)}))


def test_the_forge_can_make_a_good_one(tmp_path: Path, storage: Storage) -> None:
    good = [member(BLOB, CONTENT)]
    take(forged(tmp_path / "forged", good, blobs={DIGEST: len(CONTENT)}), storage)
    assert held(storage) == {("blob", DIGEST)}


OUTSIDE = "/tmp/medperf-outside"
WRONG_TREES: dict[str, Members] = {
    "a path upwards": [member("../../../outside", b"x")],
    "an absolute path": [member(OUTSIDE, b"x")],
    "a link outside": [member("a", type=tarfile.SYMTYPE, linkname="../..")],
    "a link to a root": [member("a", type=tarfile.SYMTYPE, linkname="/")],
    "writing through a link": [
        member("d", type=tarfile.DIRTYPE),
        member("a", type=tarfile.SYMTYPE, linkname="d"),
        member("a/x", b"x"),
    ],
    "a hard link": [member("a", b"x"), member("b", type=tarfile.LNKTYPE, linkname="a")],
    "a device": [member("a", type=tarfile.CHRTYPE)],
    "a pipe": [member("a", type=tarfile.FIFOTYPE)],
    "the same twice": [member("a", b"x"), member("a", b"y")],
    "another content": [member("a", b"y")],
    "many folders deep": [member("d/" * 200 + "a", b"x")],
    "too many bytes": [member("a", b"x" * 9999)],
}


@pytest.mark.parametrize("wrong", WRONG_TREES)
def test_folders_that_are_not_what_they_say_are_refused(
    tmp_path: Path, refuses: Callable[[Path], str], wrong: str
) -> None:
    digest = Storage(tmp_path / "source").trees.copy(build({"a": File(b"x")}, tmp_path / "folder"))
    # Not by `replace`, which Python has only since 3.11.4.
    members = [(copy(info), content) for info, content in WRONG_TREES[wrong]]
    for info, _ in members:
        info.name = f"trees/{digest}/{info.name}"
    before = sorted(tmp_path.iterdir())
    size = TreeSize(len(members), 1000)
    refuses(forged(tmp_path / "forged", members, trees={digest: size}))
    assert sorted(path for path in tmp_path.iterdir() if path.name != "forged") == before
    assert not Path(OUTSIDE).exists()


def test_a_folder_of_more_members_than_the_manifest_says_is_refused(
    tmp_path: Path, refuses: Callable[[Path], str]
) -> None:
    digest = Storage(tmp_path / "source").trees.copy(build({"a": File(b"x")}, tmp_path / "folder"))
    name = f"trees/{digest}/a"
    for count in (0, 2, 3_000_000):
        refuses(forged(tmp_path / "f", [member(name, b"x")], trees={digest: TreeSize(count, 1)}))


GOOD: dict[str, Any] = {
    "format": FORMAT,
    **asdict(Manifest({}, {}, {}, {}, [])),
}
WRONG_MANIFESTS: list[Any] = [
    [],
    None,
    "x",
    {},
    {**GOOD, "format": "medperf-bundle-2"},
    {**GOOD, "about": 1},
    {**GOOD, "blobs": []},
    {**GOOD, "blobs": {"x": 1}},
    {**GOOD, "blobs": {"../" + "0" * 61: 1}},
    {**GOOD, "blobs": {DIGEST: -1}},
    {**GOOD, "blobs": {DIGEST: True}},
    {**GOOD, "blobs": {DIGEST: "1"}},
    {**GOOD, "blobs": {DIGEST: 1.5}},
    {**GOOD, "blobs": {DIGEST: None}},
    {**GOOD, "trees": {DIGEST: 1}},
    {**GOOD, "trees": {DIGEST: {"members": 1}}},
    {**GOOD, "trees": {DIGEST: {"members": -1, "bytes": 1}}},
    {**GOOD, "documents": {"../x": {"bytes": 0, "sha256": DIGEST}}},
    {**GOOD, "documents": {"x": {"bytes": 0, "sha256": "x"}}},
    {**GOOD, "documents": {"x": {"bytes": 0, "sha256": DIGEST, "more": 1}}},
    {**GOOD, "left_out": [1]},
    {**GOOD, "left_out": [[]]},
    {**GOOD, "left_out": 1},
]


@pytest.mark.parametrize("wrong", WRONG_MANIFESTS, ids=lambda wrong: json.dumps(wrong)[-60:])
def test_a_manifest_of_another_form_is_refused(
    tmp_path: Path, refuses: Callable[[Path], str], wrong: Any
) -> None:
    said = refuses(forged(tmp_path / "forged", [], manifest=json.dumps(wrong).encode()))
    assert "its manifest is wrong" in said


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_a_manifest_that_is_no_json_is_refused(
    tmp_path: Path, refuses: Callable[[Path], str], data: bytes
) -> None:
    assert "its manifest is wrong" in refuses(forged(tmp_path / "forged", [], manifest=data))


ROWS = ["x", 1, None, [], {}, ["a"], ["a", "x"], [1, DIGEST], ["a", DIGEST, 1]]
WRONG_ROWS: list[tuple[str, Any]] = [
    *(("names", row) for row in ROWS),
    *(("memo", row) for row in ROWS),
    ("memo", ["x", {"outputs": {}, "seconds": 1}]),
    ("memo", [DIGEST, {"outputs": {}}]),
    ("memo", [DIGEST, {"outputs": [], "seconds": 1}]),
    ("memo", [DIGEST, {"outputs": {"o": ["file", "../x"]}, "seconds": 1}]),
    ("memo", [DIGEST, {"outputs": {"o": ["link", DIGEST]}, "seconds": 1}]),
    ("memo", [DIGEST, {"outputs": {"o": DIGEST}, "seconds": 1}]),
]


@pytest.mark.parametrize(("name", "row"), WRONG_ROWS, ids=str)
def test_documents_of_another_form_are_refused_with_all_the_rest(
    tmp_path: Path, refuses: Callable[[Path], str], name: str, row: Any
) -> None:
    source = Storage(tmp_path / "source")
    blob = source.blobs.add([CONTENT])
    write(tmp_path / "b", source, {}, {name: document(tmp_path / "rows", [row])}, [blob])
    assert f"its {name} hold" in refuses(tmp_path / "b")


def test_a_document_that_is_no_json_is_refused(
    tmp_path: Path, refuses: Callable[[Path], str]
) -> None:
    for content in (b"\xff\n", b"{\n", b"[" * 100_000 + b"\n", b"1" * (17 << 20)):
        rows = tmp_path / "rows"
        rows.write_bytes(content)
        write(tmp_path / "b", Storage(tmp_path / "source"), {}, {"names": rows})
        refuses(tmp_path / "b")


def test_a_line_that_nobody_would_read_is_not_written(tmp_path: Path) -> None:
    longest = "x" * ((16 << 20) - 2)
    assert list(document(tmp_path / "rows", [longest]).open()) == [f'"{longest}"\n']
    with pytest.raises(CacheError, match="and a bundle takes 16777216"):
        document(tmp_path / "rows", [f"{longest}x"])


def long_way(components: int, of_bytes: int = 1) -> Tree:
    """A file at the end of a path of so many components."""
    tree: Tree = {"f": File(b"x")}
    for _ in range(components - 1):
        tree = {"d" * of_bytes: tree}
    return tree


def test_what_a_cache_keeps_a_bundle_brings_to_any_other(tmp_path: Path) -> None:
    source = Storage(tmp_path / "source")
    far = Storage(tmp_path.joinpath(*["far"] * 100))
    shapes = {"deep": long_way(100), "long": long_way(13, 248)}
    kept = [source.trees.copy(build(tree, tmp_path / name)) for name, tree in shapes.items()]
    write(tmp_path / "bundle", source, {}, {}, kept)
    take(tmp_path / "bundle", far)
    assert {item.digest for item in far.items()} == set(kept)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (long_way(101), "is more than 100 folders deep"),
        (long_way(14, 248), "is a path of more than 3000 bytes"),
        ({str(number): File(b"") for number in range(6)}, "holds more than the 5 files"),
    ],
    ids=["deep", "long", "many"],
)
def test_what_no_bundle_could_bring_is_not_kept(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch, tree: Tree, said: str
) -> None:
    if "5 files" in said:
        monkeypatch.setattr(digests, "MOST_MEMBERS", 5)
    folder = build(tree, tmp_path / "folder")
    with pytest.raises(CacheError, match=said):
        storage.trees.copy(folder)
    assert list(storage.items()) == residue(storage) == []

    # One that an earlier version kept is found, and not carried.
    with storage.scratch() as area:
        build(tree, area / "tree")
        storage.trees.publish(area / "tree", DIGEST)
    assert [(finding.kind, finding.expected) for finding in storage.verify()] == [("tree", DIGEST)]
    with pytest.raises(CacheError, match=said):
        write(tmp_path / "bundle", storage, {}, {}, [DIGEST])
    assert not (tmp_path / "bundle").exists()


def test_more_than_there_is_room_for_is_refused_at_once(
    tmp_path: Path, refuses: Callable[[Path], str]
) -> None:
    said = refuses(forged(tmp_path / "forged", [], blobs={DIGEST: 1 << 60}))
    assert "the bundle takes 1152921504606846976 bytes" in said


def bomb(file: Path, name: str, gibibytes: int, **parameters: int) -> Path:
    """A file of kilobytes that unpacks to a member of many zeros."""
    info, _ = member(name)
    info.size = gibibytes << 30
    options = {zstd.CompressionParameter[name]: value for name, value in parameters.items()}
    compressor = zstd.ZstdCompressor(options=options)
    with open(file, "wb") as target:
        target.write(compressor.compress(info.tobuf()))
        for _ in range(gibibytes * 64):
            target.write(compressor.compress(bytes(1 << 24)))
        target.write(compressor.flush())
    return file


def test_bombs_do_not_fill_the_memory(tmp_path: Path) -> None:
    file = bomb(tmp_path / "bomb", "manifest.json", 2)
    wide = bomb(tmp_path / "wide", "manifest.json", 1, window_log=30)

    def look() -> None:
        before = peak_bytes()
        for bundle in (file, wide):
            with pytest.raises(UnsafeArchive):
                read_head(bundle)
        assert peak_bytes() - before < 64 << 20

    run_together(look)


def peak_bytes() -> int:
    """The most memory that this process ever had (its resident set)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    chunk = os.urandom(1 << 20)

    def peak(mebibytes: int) -> None:
        folder = tmp_path / str(mebibytes)
        folder.mkdir()
        source, target = Storage(folder / "source"), Storage(folder / "target")
        before = peak_bytes()
        blob = source.blobs.add(chunk for _ in range(mebibytes))
        write(folder / "bundle", source, {}, {}, [blob])
        take(folder / "bundle", target)
        assert blob in target.blobs
        assert peak_bytes() - before < 100 << 20

    run_together(lambda: peak(1))
    run_together(lambda: peak(300))
