"""The cache as a whole: what it holds, what it lets go, who may look."""

import os
import stat
import time
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_cache.errors import InUse
from medperf_cache.partials import Origin, Partials
from tests.cache.content import LAYER, File, archive, build, residue
from tests.cache.processes import run_together, start

DAY = 86_400


def age(path: Path, days: float) -> None:
    """Make a thing look last used so long ago."""
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def test_items_tell_kind_size_and_last_use(tmp_path: Path, storage: Storage) -> None:
    blob = storage.blobs.add([b"12345"])
    tree = storage.trees.copy(build({"a": File(b"12"), "d": {"b": File(b"3")}}, tmp_path / "f"))
    age(storage.blobs.path(blob), days=2)

    items = {item.digest: item for item in storage.items()}

    assert {(i.kind, i.digest, i.size_bytes) for i in items.values()} == {
        ("blob", blob, 5),
        ("tree", tree, 3),
    }
    assert time.time() - items[blob].used == pytest.approx(2 * DAY, abs=60)
    assert time.time() - items[tree].used == pytest.approx(0, abs=60)


def test_gc_removes_what_was_not_used_and_keeps_what_was(tmp_path: Path, storage: Storage) -> None:
    trees = [storage.trees.copy(build({str(n): {}}, tmp_path / str(n))) for n in range(2)]
    blobs = [storage.blobs.add([str(n).encode()]) for n in range(2)]
    for path in (storage.trees.path(trees[0]), storage.blobs.path(blobs[0])):
        age(path, days=31)
    age(storage.blobs.path(blobs[1]), days=31)
    storage.blobs.path(blobs[1])  # used again

    removed = storage.gc(30 * DAY)

    assert {item.digest for item in removed} == {trees[0], blobs[0]}
    assert {item.digest for item in storage.items()} == {trees[1], blobs[1]}


def test_gc_evicts_the_least_recently_used_until_it_is_small_enough(
    tmp_path: Path, storage: Storage
) -> None:
    tree = storage.trees.copy(build({"a": File(b"1234567890")}, tmp_path / "folder"))
    blobs = [storage.blobs.add([bytes([n]) * 10]) for n in range(3)]
    for days, path in enumerate(
        [*map(storage.blobs.path, reversed(blobs)), storage.trees.path(tree)], start=1
    ):
        age(path, days)

    assert storage.gc(most_bytes=40) == []
    removed = storage.gc(most_bytes=20)

    # Oldest first, and no more than it takes.
    assert [item.digest for item in removed] == [tree, blobs[0]]
    assert {item.digest for item in storage.items()} == set(blobs[1:])


def test_gc_by_age_and_by_size_together(storage: Storage) -> None:
    old, older, new = (storage.blobs.add([bytes([n]) * 10]) for n in range(3))
    age(storage.blobs.path(old), days=40)
    age(storage.blobs.path(older), days=50)
    assert len(storage.gc(45 * DAY, most_bytes=20)) == 1
    assert len(storage.gc(30 * DAY, most_bytes=20)) == 1
    assert set(storage.blobs) == {new}


def test_gc_leaves_what_is_pinned(tmp_path: Path, storage: Storage) -> None:
    tree = storage.trees.copy(build({"a": File(b"12345")}, tmp_path / "folder"))
    kept, free = (storage.blobs.add([text]) for text in (b"kept", b"free"))
    for path in (storage.trees.path(tree), storage.blobs.path(kept)):
        age(path, days=99)
    storage.pins.put("benchmark 1", [("tree", tree), ("blob", kept)])
    storage.pins.put("benchmark 2", [("blob", kept)])

    assert [item.digest for item in storage.gc(30 * DAY, most_bytes=0)] == [free]
    assert {item.digest: item.pins for item in storage.items()} == {
        tree: ("benchmark 1",),
        kept: ("benchmark 1", "benchmark 2"),
    }

    storage.pins.remove("benchmark 1")
    assert [item.digest for item in storage.gc(30 * DAY)] == [tree]


def test_an_image_that_gc_took_a_part_of_is_whole_again_when_it_is_added(
    storage: Storage,
) -> None:
    config = b"configuration"
    image_id = sha256(config).hexdigest()
    storage.images.add(image_id, [archive(config, LAYER)])
    recipe, layer = storage.images.parts(image_id)
    age(storage.blobs.path(layer), days=2)
    assert [item.digest for item in storage.gc(DAY)] == [layer]
    assert image_id not in storage.images
    storage.images.add(image_id, [archive(config, LAYER)])
    assert storage.images.parts(image_id) == [recipe, layer]


def test_gc_deletes_unfinished_downloads_that_nobody_goes_on_with(storage: Storage) -> None:
    partials = Partials(storage.root, storage.blobs)
    with partials.hold("http://host/file") as partial:
        partial.begin(Origin("http://host/file", '"tag"', 10, "text/plain"))
        partial.append(b"12345")
    storage.gc(DAY)
    storage.gc(most_bytes=0)
    with partials.hold("http://host/file") as partial:
        assert partial.size == 5
    storage.gc(0)
    with partials.hold("http://host/file") as partial:
        assert partial.size == 0


def test_gc_forgets_the_steps_whose_results_are_gone(tmp_path: Path, storage: Storage) -> None:
    blob = storage.blobs.add([b"x"])
    tree = storage.trees.copy(build({"a": File(b"x")}, tmp_path / "folder"))
    storage.memo.put("kept", {"outputs": {"output_path": ["directory", tree]}})
    storage.memo.put("lost", {"outputs": {"a": ["directory", tree], "b": ["file", blob]}})
    age(storage.blobs.path(blob), days=1)

    storage.gc(DAY / 2)

    assert storage.memo.get("kept") is not None
    assert storage.memo.get("lost") is None


def test_gc_waits_for_nobody_and_takes_nothing_from_who_works(storage: Storage) -> None:
    digest = storage.blobs.add([b"x"])

    def collect() -> None:
        with pytest.raises(InUse, match="another medperf process"):
            Storage(storage.root).gc(0)

    with storage.in_use(), storage.in_use():
        run_together(collect)
        assert digest in storage.blobs
    storage.gc(0)
    assert digest not in storage.blobs


def test_who_comes_during_gc_waits_for_its_end(storage: Storage) -> None:
    come, call = os.pipe()
    done = storage.root / "done"

    def work() -> None:
        os.read(come, 1)
        with Storage(storage.root).in_use():
            done.touch()

    process = start(work)
    with storage.in_use(alone=True):
        os.write(call, b"!")
        process.join(0.3)
        assert not done.exists()
    process.join(30)
    assert done.exists()


def test_an_error_of_the_work_itself_is_not_taken_for_a_lock(storage: Storage) -> None:
    with pytest.raises(BlockingIOError, match="mine"), storage.in_use():
        raise BlockingIOError("mine")


def test_gc_sweeps_what_the_dead_left_but_not_what_the_living_use(storage: Storage) -> None:
    def die() -> None:
        with Storage(storage.root).scratch() as area:
            build({"closed": {"file": File(b"x")}}, area / "tree")
            (area / "tree" / "closed").chmod(0)
            os._exit(0)

    run_together(die)
    assert len(residue(storage)) == 1
    with storage.scratch() as mine:
        storage.gc(DAY)
        assert residue(storage) == [mine]


def test_only_its_owner_may_look_into_the_cache(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        storage = Storage(tmp_path / "cache")
        storage.trees.copy(build({"a": File(b"x")}, tmp_path / "folder"))
        storage.blobs.add([b"x"])
    finally:
        os.umask(old)

    root = storage.root
    closed = [root, root / "memo", root / "incoming", *root.glob("blobs/*"), *root.glob("trees/*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in closed} == {0o700}
