"""The key-value store: JSON and bytes come back as they were, and nothing is unpickled."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import diskcache
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medperf_cache import CacheError
from medperf_cache.disk import COMPLETE, Store, open_store
from tests.cache.processes import run_together

COUNTS = 50

KEYS = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that many examples share."""
    return open_store(tmp_path_factory.mktemp("store"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS, JSON | st.binary(max_size=200))
def test_what_json_can_express_comes_back_as_it_was(store: Store, key: str, value: Any) -> None:
    store[key] = value

    assert store[key] == value
    assert type(store[key]) is type(value)
    assert key in list(store)


def test_names_that_are_not_utf8_are_keys_and_values(store: Store) -> None:
    name = os.fsdecode(b"scan-\xff.dcm")
    store[name] = {name: name}

    assert store[name] == {name: name}


def test_a_value_that_json_cannot_express_is_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        store["key"] = {1, 2}


def test_keys_are_strings(store: Store) -> None:
    with pytest.raises(TypeError, match="keys are strings, not 7"):
        store[7] = "value"


@pytest.mark.parametrize("kind", ["value", "key", "file"])
def test_what_somebody_pickled_into_a_store_is_refused(tmp_path: Path, kind: str) -> None:
    open_store(tmp_path / "store").close()
    with diskcache.Cache(str(tmp_path / "store"), disk_min_file_size=0) as planted:
        planted.reset("disk_min_file_size", 0 if kind == "file" else 2**20)
        planted[Trap(tmp_path / "sprung") if kind == "key" else b"key"] = Trap(tmp_path / "sprung")
    store = open_store(tmp_path / "store")

    with pytest.raises(CacheError, match="refusing"):
        for key in store:
            store.get(key)

    with pytest.raises(CacheError, match="refusing"):
        list(store.with_prefix(""))
    assert not (tmp_path / "sprung").exists()


def test_a_prefix_finds_its_keys_and_no_others(store: Store) -> None:
    store.clear()
    for key in ("a/1", "a/\U0010ffff", "a", "b/1", "A/1", "a0"):
        store[key] = key

    assert list(store.with_prefix("a/")) == [("a/1", "a/1"), ("a/\U0010ffff", "a/\U0010ffff")]


def test_only_its_owner_may_look_into_a_store(tmp_path: Path) -> None:
    open_store(tmp_path / "store")

    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_large_values_stay_in_the_database_so_that_a_row_is_whole_or_absent(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store["bytes"], store["json"] = b"x" * 2**20, "y" * 2**20

    assert {path.name.partition("-")[0] for path in (tmp_path / "store").iterdir()} == {"cache.db"}
    assert (store["bytes"], store["json"]) == (b"x" * 2**20, "y" * 2**20)


def test_who_opens_a_store_again_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    writer = open_store(tmp_path, durable=True)
    with writer.transact():
        writer["who"] = "writer"
        assert open_store(tmp_path, durable=True).get("who") is None
    assert open_store(tmp_path, durable=True)["who"] == "writer"


@pytest.mark.parametrize("durable", [False, True])
def test_a_store_is_as_durable_as_it_is_asked_to_be_now(tmp_path: Path, durable: bool) -> None:
    open_store(tmp_path, durable=not durable)
    for _ in range(2):
        store = open_store(tmp_path, durable)
        assert store._sql("PRAGMA synchronous").fetchone() == (2 if durable else 1,)
        assert store._sql("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_whose_first_opening_was_cut_off_is_completed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store._sql("DROP TRIGGER Settings_size_delete")
    store.close()
    again = open_store(tmp_path)
    again["key"] = "value"
    again.pop("key")
    assert len(again) == 0
    assert again._sql(COMPLETE).fetchone()


def test_a_transaction_within_another_is_a_part_of_it(tmp_path: Path) -> None:
    store, other = open_store(tmp_path), open_store(tmp_path)
    with pytest.raises(RuntimeError), store.transact():
        with store.transact():
            store["inner"] = 1
        assert dict(store.with_prefix("")) == {"inner": 1} and list(other) == []
        raise RuntimeError
    assert list(store) == []
    with store.transact():
        store["inner"] = 1
        store.pop("inner")
        store["outer"] = 2
    assert list(other) == ["outer"]


def test_whoever_writes_waits_for_who_is_writing(tmp_path: Path) -> None:
    def work() -> None:
        store = open_store(tmp_path)

        def count() -> None:
            for _ in range(COUNTS):
                with store.transact(retry=True):
                    store["count"] = store.get("count", 0) + 1

        threads = [threading.Thread(target=count) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_together(work, work)
    assert open_store(tmp_path)["count"] == 4 * COUNTS
