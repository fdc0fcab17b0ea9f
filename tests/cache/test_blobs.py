"""Files in the cache: streamed in, whole and right, or not there."""

import io
import os
import stat
from collections.abc import Iterator
from hashlib import sha256

import pytest

from medperf_cache import CorruptContent, NotCached, Storage
from tests.cache.content import residue

CONTENT = os.urandom(100_000)
DIGEST = sha256(CONTENT).hexdigest()


def test_a_stream_becomes_a_read_only_file_named_by_its_sha256(storage: Storage) -> None:
    assert storage.blobs.add([CONTENT[:10], b"", CONTENT[10:]]) == DIGEST

    path = storage.blobs.path(DIGEST)
    assert path.read_bytes() == CONTENT
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == (DIGEST, 0o444)
    assert list(storage.blobs) == [DIGEST]
    assert residue(storage) == []


def test_the_wrong_content_is_refused_with_both_hashes(storage: Storage) -> None:
    expected = "a" * 64
    with pytest.raises(
        CorruptContent, match=f"weights: expected sha256 {expected}, found"
    ) as caught:
        storage.blobs.add([CONTENT], expected, "weights")

    assert (caught.value.expected, caught.value.found) == (expected, DIGEST)
    assert list(storage.blobs) == residue(storage) == []


def test_a_stream_that_breaks_leaves_nothing(storage: Storage) -> None:
    def breaking() -> Iterator[bytes]:
        yield CONTENT
        assert len(residue(storage)) == 1
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        storage.blobs.add(breaking())

    assert list(storage.blobs) == residue(storage) == []


def test_nothing_is_visible_before_it_is_whole(storage: Storage) -> None:
    def watched() -> Iterator[bytes]:
        yield CONTENT[:500]
        assert DIGEST not in storage.blobs
        assert list(storage.items()) == []
        yield CONTENT[500:]

    assert storage.blobs.add(watched()) in storage.blobs


def test_a_file_that_a_step_made_is_moved_in(storage: Storage) -> None:
    with storage.scratch() as area:
        (area / "output").write_bytes(CONTENT)
        assert storage.blobs.adopt(area / "output") == DIGEST
        assert not (area / "output").exists()

    assert storage.blobs.path(DIGEST).read_bytes() == CONTENT


def test_a_file_can_be_copied_out(storage: Storage) -> None:
    storage.blobs.add([CONTENT])
    target = io.BytesIO()
    storage.blobs.copy_to(DIGEST, target)

    assert target.getvalue() == CONTENT


def test_a_missing_file_is_said_to_be_missing(storage: Storage) -> None:
    with pytest.raises(NotCached, match=f"sha256 {DIGEST} is not in the cache"):
        storage.blobs.path(DIGEST)
    storage.blobs.remove(DIGEST)


def test_verify_finds_a_flipped_bit_and_adding_mends_it(storage: Storage) -> None:
    storage.blobs.add([CONTENT])
    sound = storage.blobs.add([b"sound"])
    path = storage.blobs.path(DIGEST)
    path.chmod(0o600)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert [(f.kind, f.expected) for f in storage.verify()] == [("blob", DIGEST)]

    storage.blobs.add([CONTENT])

    assert list(storage.verify()) == []
    assert sorted(storage.blobs) == sorted([DIGEST, sound])
