"""What is pinned is known by whom it is kept for."""

from medperf_cache import Storage

A, B, C = (("blob", "a" * 64), ("tree", "b" * 64), ("blob", "c" * 64))


def test_a_pin_is_replaced_as_a_whole_and_read_by_others(storage: Storage) -> None:
    storage.pins.put("one", [B, A, A])
    assert Storage(storage.root).pins.get("one") == [A, B]
    storage.pins.put("one", [C])
    assert storage.pins.get("one") == [C]


def test_what_two_need_is_kept_until_neither_does(storage: Storage) -> None:
    storage.pins.put("one", [A, B])
    storage.pins.put("two", [B])
    assert storage.pins.names() == {A: ["one"], B: ["one", "two"]}
    assert storage.pins.remove("one")
    assert storage.pins.names() == {B: ["two"]}
    assert not storage.pins.remove("one")
    assert storage.pins.get("one") == []
