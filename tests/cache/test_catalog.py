"""The catalog: what the registry last said, whole at every moment."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from medperf_cache import Catalog
from tests.cache.processes import run_together

KINDS = ("benchmark", "mlcube", "ml")
UIDS = st.integers(1, 12)
KIND = st.sampled_from(KINDS)


class Interrupted(Exception):
    """What cuts a transaction off."""


class CatalogMachine(RuleBasedStateMachine):
    """Any sequence of changes leaves what a dictionary would hold, also for who opens it anew."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.catalog = Catalog(self.folder)
        self.catalog.clear()
        self.model: dict[str, dict[int, Any]] = {kind: {} for kind in KINDS}
        self.cursor = 0

    @rule(kind=KIND, uid=UIDS, name=st.text())
    def put(self, kind: str, uid: int, name: str) -> None:
        self.model[kind][uid] = {"id": uid, "name": name, "tags": {"x": [None, 1.5, True]}}
        self.catalog.put(kind, self.model[kind][uid])

    @rule(kind=KIND, uid=UIDS)
    def remove(self, kind: str, uid: int) -> None:
        self.model[kind].pop(uid, None)
        self.catalog.remove(kind, uid)

    @rule(kind=KIND, uids=st.sets(UIDS))
    def replace(self, kind: str, uids: set[int]) -> None:
        self.model[kind] = {uid: {"id": uid} for uid in uids}
        self.catalog.replace(kind, list(self.model[kind].values()))

    @rule(cursor=st.integers(0, 2**62))
    def move(self, cursor: int) -> None:
        self.catalog.cursor = self.cursor = cursor

    @rule(kind=KIND, uid=UIDS)
    def interrupted(self, kind: str, uid: int) -> None:
        with pytest.raises(Interrupted), self.catalog.transaction():
            self.catalog.put(kind, {"id": uid})
            self.catalog.cursor = 7
            self.catalog.replace(kind, [])
            raise Interrupted

    @rule()
    def clear(self) -> None:
        self.model, self.cursor = {kind: {} for kind in KINDS}, 0
        self.catalog.clear()

    @rule()
    def reopen(self) -> None:
        self.catalog = Catalog(self.folder)

    @invariant()
    def as_the_registry_said(self) -> None:
        for kind in KINDS:
            assert self.catalog.all(kind) == [self.model[kind][u] for u in sorted(self.model[kind])]
        assert self.catalog.get("ml", 1) == self.model["ml"].get(1)
        assert self.catalog.cursor == self.cursor


def test_a_catalog_holds_what_was_put_and_not_removed(tmp_path: Path) -> None:
    CatalogMachine.folder = tmp_path / "catalog"
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        CatalogMachine,
        settings=settings(max_examples=30, stateful_step_count=20),
    )


def test_a_new_catalog_knows_nothing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")

    assert (catalog.cursor, catalog.fetched_at, catalog.me) == (0, None, None)
    assert (catalog.get("benchmark", 1), catalog.all("benchmark")) == (None, [])


def test_another_process_never_sees_half_of_a_transaction(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    states = [[{"id": uid, "state": state} for uid in range(150)] for state in "ab"]
    run_together(lambda: Catalog(folder).replace("benchmark", states[0]))

    def write() -> None:
        catalog = Catalog(folder)
        for turn in range(10):
            with catalog.transaction():
                catalog.replace("benchmark", states[turn % 2][: 150 - turn])
                catalog.cursor = turn

    def read() -> None:
        catalog = Catalog(folder)
        while catalog.cursor < 9:
            seen = catalog.all("benchmark")
            assert len({entity["state"] for entity in seen}) == 1
            assert [entity["id"] for entity in seen] == list(range(len(seen)))
            assert 140 < len(seen) <= 150

    run_together(write, read, read)
