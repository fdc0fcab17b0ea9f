"""kill -9 at any moment: what is visible is whole, and the next attempt succeeds."""

import os
import random
from pathlib import Path

from medperf_cache import Storage, tree_digest
from tests.cache.content import File, build, pack, residue
from tests.cache.processes import run_together, start

KILLS = 20
LONGEST_SECONDS = 0.25


def attempt(storage: Storage, archive: Path, content: list[bytes]) -> tuple[str, str]:
    """A download and an unpack, which also record what they did."""
    with storage.in_use():
        blob = storage.blobs.add(content)
        tree = storage.trees.unpack(archive, "archive")
        storage.names.put("blob", blob)
        storage.memo.put("step", {"outputs": {"o": ["directory", tree]}})
        return blob, tree


def test_a_cache_survives_being_killed_in_the_middle(tmp_path: Path) -> None:
    seed = int(os.environ.get("MEDPERF_TEST_SEED", "1"))
    moments = random.Random(seed)
    content = [os.urandom(1 << 18) for _ in range(16)]
    files = {f"{number}": File(os.urandom(999)) for number in range(150)}
    packed = build({"d": dict(files)}, tmp_path / "folder")
    archive, folder = pack(packed, tmp_path / "archive"), tree_digest(packed)
    root = tmp_path / "cache"

    def work() -> None:
        while True:
            storage = Storage(root)
            blob, tree = attempt(storage, archive, content)
            storage.remove("blob", blob)
            storage.remove("tree", tree)

    def check() -> None:
        storage = Storage(root)
        assert list(storage.verify()) == []
        made = attempt(storage, archive, content)
        assert {item.digest for item in storage.items()} == set(made)
        assert (storage.root / "blobs" / made[0][:2] / made[0]).read_bytes() == b"".join(content)
        assert tree_digest(storage.trees.path(made[1])) == made[1] == folder
        storage.gc(3600)
        assert residue(storage) == []

    interrupted = 0
    for _ in range(KILLS):
        process = start(work)
        process.join(moments.uniform(0, LONGEST_SECONDS))
        process.kill()
        process.join()
        interrupted += len(residue(Storage(root)))
        run_together(check)
    assert interrupted > KILLS // 4, f"with seed {seed} hardly a kill came in the middle"
