"""Many processes at one cache: each finds its content whole, whatever the others do."""

import os
from collections.abc import Callable
from pathlib import Path

from medperf_cache import Storage, tree_digest
from medperf_cache.errors import InUse
from tests.cache.content import File, archive_of, build, member, residue
from tests.cache.processes import run_together

WORKERS, ROUNDS = 8, 8


def worker(root: Path, archives: list[Path], number: int) -> Callable[[], None]:
    """What a test run does with the cache: content of its own, and content that all share."""

    def work() -> None:
        for turn in range(ROUNDS):
            storage = Storage(root)
            with storage.in_use():
                for archive in (archives[-1], archives[number]):
                    digest = storage.trees.unpack(archive, archive.name)
                    assert tree_digest(storage.trees.path(digest)) == digest
                for content in (b"shared" * 50_000, os.urandom(50_000)):
                    blob = storage.blobs.add([content])
                    assert storage.blobs.path(blob).read_bytes() == content
                with storage.scratch() as area:
                    tree = storage.trees.adopt(build({str(turn): File(b"x")}, area / "output"))
                storage.memo.put(str(turn), {"outputs": {"output": ["directory", tree]}})
                assert storage.memo.get(str(turn)) is not None
                assert (storage.trees.path(tree) / str(turn)).read_bytes() == b"x"

    return work


def caretaker(root: Path) -> Callable[[], None]:
    """Somebody who verifies and empties the cache all the time."""

    def care() -> None:
        for _ in range(ROUNDS):
            storage = Storage(root)
            assert list(storage.verify()) == []
            try:
                storage.gc(0)
            except InUse:
                continue

    return care


def test_eight_workers_and_two_caretakers_do_not_disturb_each_other(tmp_path: Path) -> None:
    archives = [
        archive_of(tmp_path / str(n), *(member(f"{n}/{m}", os.urandom(900)) for m in range(20)))
        for n in range(WORKERS + 1)
    ]
    root = tmp_path / "cache"
    workers = [worker(root, archives, number) for number in range(WORKERS)]

    run_together(*workers, caretaker(root), caretaker(root))

    storage = Storage(root)
    assert list(storage.verify()) == residue(storage) == []


def test_many_may_make_the_same_cache_and_the_same_content_at_once(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", *(member(str(n), b"x" * 900) for n in range(100)))
    root = tmp_path / "cache"

    def work() -> None:
        storage = Storage(root)
        storage.trees.unpack(archive, "archive")
        storage.blobs.add([b"x" * 2**20])

    run_together(*[work] * WORKERS)

    storage = Storage(root)
    assert sorted(item.kind for item in storage.items()) == ["blob", "tree"]
    assert list(storage.verify()) == residue(storage) == []
