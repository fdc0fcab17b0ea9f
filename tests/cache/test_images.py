"""Copies of images come out byte for byte as they went in, and share what they have in common."""

import os
import tarfile
from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf_cache import CacheError, NotCached, Storage
from medperf_cache.images import _Stream
from tests.cache.content import LAYER, archive, residue


def digest(content: bytes) -> str:
    """SHA-256, as text."""
    return sha256(content).hexdigest()


def portions(content: bytes, size: int) -> Iterator[bytes]:
    """The same bytes in pieces, as they might come from a socket."""
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 10_000, 10_000_000])
def test_an_archive_comes_out_as_it_went_in(storage: Storage, form: int, size: int) -> None:
    config, odd = b"{}", os.urandom(5001)
    content = archive(config, LAYER, odd, b"", form=form, again="../layer.tar")
    storage.images.add(digest(config), portions(content, size))
    assert digest(config) in storage.images
    assert b"".join(storage.images.read(digest(config))) == content
    _, *layers = storage.images.parts(digest(config))
    assert set(layers) == {digest(LAYER), digest(odd)}


def test_a_size_that_only_an_extended_header_tells_is_believed(storage: Storage) -> None:
    member = tarfile.TarInfo("layer.tar")
    member.pax_headers = {"size": str(len(LAYER))}
    whole = member.tobuf(tarfile.PAX_FORMAT) + LAYER + bytes(1024)
    storage.images.add(digest(LAYER), [whole])
    assert b"".join(storage.images.read(digest(LAYER))) == whole
    assert digest(LAYER) in storage.images.parts(digest(LAYER))


def test_images_share_their_layers(storage: Storage) -> None:
    for config in (b"one", b"two"):
        storage.images.add(digest(config), [archive(config, LAYER, os.urandom(9000))])
    parts = [set(storage.images.parts(digest(config))) for config in (b"one", b"two")]
    assert parts[0] & parts[1] == {digest(LAYER)}
    assert set(storage.blobs) == parts[0] | parts[1] and len(set(storage.blobs)) == 5


def test_an_image_without_one_of_its_layers_is_not_here(storage: Storage) -> None:
    storage.images.add(digest(b"c"), [archive(b"c", LAYER)])
    storage.blobs.remove(digest(LAYER))
    assert digest(b"c") not in storage.images
    with pytest.raises(NotCached):
        list(storage.images.read(digest(b"c")))
    storage.images.add(digest(b"c"), [archive(b"c", LAYER)])
    assert digest(b"c") in storage.images


@pytest.mark.parametrize(
    "recipe",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"pieces": 7}',
        b'{"pieces": [7]}',
        b'{"pieces": ["?"]}',
        b'{"pieces": [{"sha256": "../etc"}]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_recipe_is_no_image(storage: Storage, recipe: bytes) -> None:
    digest = storage.blobs.add([recipe])
    with pytest.raises(CacheError):
        storage.images.note("a" * 64, digest)
    assert "a" * 64 not in storage.images
    # Wherever it came from, it is found.
    storage.names.put(f"image:{'a' * 64}", digest)
    assert "a" * 64 not in storage.images
    (finding,) = storage.verify()
    storage.discard(finding)
    assert list(storage.verify()) == []


def test_a_copy_that_was_carried_here_is_that_image(storage: Storage) -> None:
    storage.images.add(digest(b"config"), [archive(b"config", LAYER)])
    recipe = storage.images.parts(digest(b"config"))[0]
    for other in (digest(b"another"), digest(b"")):
        with pytest.raises(CacheError, match="holds no image"):
            storage.images.note(other, recipe)
    storage.names.forget(f"image:{digest(b'config')}")
    storage.images.note(digest(b"config"), recipe)
    assert digest(b"config") in storage.images and list(storage.verify()) == []


def test_a_header_that_would_fill_the_memory_is_refused(storage: Storage) -> None:
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(CacheError, match="a header of"):
        storage.images.add(digest(LAYER), [member.tobuf(tarfile.GNU_FORMAT), bytes(1 << 20)])


@pytest.mark.parametrize("left", [100, 600, 9000, 18_000])
def test_an_archive_that_was_cut_off_is_no_image(storage: Storage, left: int) -> None:
    content = archive(LAYER, b"config")
    assert left < content.index(b"config")
    with pytest.raises(CacheError):
        storage.images.add(digest(b"config"), [content[:left]])
    assert digest(b"config") not in storage.images and residue(storage) == []


@pytest.mark.parametrize("size", ["-1", "x", str(10**15)])
def test_a_damaged_header_is_no_image(storage: Storage, size: str) -> None:
    content = bytearray(archive(LAYER))
    header = content.rindex(b"ustar") - 257
    content[header + 124 : header + 136] = size.encode().ljust(12, b"\0")
    with pytest.raises(CacheError):
        storage.images.add(digest(LAYER), [bytes(content)])


def test_an_archive_of_another_image_is_refused(storage: Storage) -> None:
    with pytest.raises(CacheError, match="holds no such image"):
        storage.images.add("a" * 64, [archive(b"config", LAYER)])
    assert "a" * 64 not in storage.images


def test_a_name_stands_for_the_image_that_had_it_last(storage: Storage) -> None:
    assert storage.images.named("site/model:1") is None
    for image_id in ("a" * 64, "b" * 64):
        storage.images.name("site/model:1", image_id)
    assert storage.images.named("site/model:1") == "b" * 64


@given(st.lists(st.binary(max_size=9)), st.lists(st.integers(0, 9)))
def test_a_stream_is_read_in_any_portions(chunks: list[bytes], sizes: list[int]) -> None:
    stream = _Stream(chunks)
    read = [stream.read(size) for size in sizes]
    rest = stream.read(1000)
    assert b"".join(read) + rest == b"".join(chunks)
    assert all(len(got) == size or not rest for got, size in zip(read, sizes, strict=True))
