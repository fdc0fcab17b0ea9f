"""Memory of steps and names: kept across processes, one key for one meaning."""

from medperf_cache import Storage
from medperf_cache.memo import memo_key


def test_a_key_is_the_meaning_not_the_spelling() -> None:
    key = memo_key({"image": "sha256:1", "inputs": {"a": "1", "b": "2"}})

    assert key == memo_key({"inputs": {"b": "2", "a": "1"}, "image": "sha256:1"})
    assert key != memo_key({"inputs": {"b": "1", "a": "2"}, "image": "sha256:1"})
    assert memo_key({"name": "\udcff"}) != memo_key({"name": "\udcfe"})


def test_a_record_is_found_by_who_opens_the_cache_later(storage: Storage) -> None:
    record = {"outputs": {"output_path": ["directory", "0" * 64]}, "seconds": 1.5}
    storage.memo.put("key", record)

    assert Storage(storage.root).memo.get("key") == record
    assert storage.memo.get("other") is None


def test_the_last_record_of_a_key_stands(storage: Storage) -> None:
    storage.memo.put("key", {"seconds": 1})
    storage.memo.put("key", {"seconds": 2})

    assert storage.memo.get("key") == {"seconds": 2}


def test_dropping_records_leaves_names_and_fingerprints(storage: Storage) -> None:
    storage.names.put("http://host/file", "0" * 64)
    for number in range(5):
        storage.memo.put(str(number), {"number": number})

    assert storage.memo.drop_unless(lambda record: record["number"] > 2) == 3
    assert [storage.memo.get(str(number)) is None for number in range(5)] == [True] * 3 + [
        False
    ] * 2
    assert storage.names.get("http://host/file") == "0" * 64


def test_a_name_is_remembered_whatever_its_characters(storage: Storage) -> None:
    storage.names.put("http://host/\udcff", "1" * 64)

    assert Storage(storage.root).names.get("http://host/\udcff") == "1" * 64
    assert storage.names.get("http://host/") is None
