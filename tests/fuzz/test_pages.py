"""Whatever stands in the database: every page and answer shows it, and no terminal obeys it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, String, insert, select, update

from tests.server.visitor import Elements
from tests.support.api import Member, created
from tests.support.hostile import (
    HASTE,
    KNOWN_WORDS,
    SECONDS,
    SHOWN,
    mappings,
    several,
    storable,
    words,
)
from tests.support.registry import UNLIMITED, Registry

COMMANDS = ["user ls", "token ls", "invite ls", "audit ls", "check"]
# What every write is held to, however it comes: words of a fixed list, digests, keys.
KEPT = {"state", "approval_status", "scope", "digest", "approved_digest", "action", "entity_type"}
# An address has a form, and whoever asks here is one of the members.
KEPT |= {"email", "email_key", "username_key", "audience", "genesis"}
MOST_BYTES = 16 << 20
# What HTML does not allow, and what turns text around.
UNSHOWN = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069]")
STORABLE = [word for word in KNOWN_WORDS if storable(word)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that has one of everything, and that nobody else asks."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in UNLIMITED.items():
            patch.setenv(name, value)
        yield from _furnished(tmp_path_factory.mktemp("pages"))


def _furnished(folder: Path) -> Iterator[Registry]:
    for registry in Registry.serving(folder):
        admin = Member(registry, "admin", admin=True)
        benchmark = admin.benchmark()["id"]
        assert admin.put(f"/benchmarks/{benchmark}/", {"approval_status": "APPROVED"}).ok
        model = admin.container()["id"]
        created(admin.post("/mlcubes/benchmarks/", {"model_mlcube": model, "benchmark": benchmark}))
        reference = admin.get(f"/benchmarks/{benchmark}/").json()["reference_model_mlcube"]
        sides = {"dataset": admin.dataset(reference)["id"], "benchmark": benchmark}
        created(admin.post("/datasets/benchmarks/", {**sides, "metadata": {}}))
        created(admin.post("/results/", {**sides, "model": reference, "results": {"auroc": 1}}))
        registry.command("invite", "create", "guest@example.org")
        registry.stop()
        registry.settings["MEDPERF_TOKEN"] = registry.token_for(admin.email)
        yield registry


class Pages:
    """A registry's answers to its admin, read with no network."""

    def __init__(self, registry: Registry) -> None:
        token = registry.settings["MEDPERF_TOKEN"]
        self.headers = {"Authorization": f"Bearer {token}"}
        self.app = registry.app
        self.browser = self.app.test_client()
        assert self.browser.post("/sign-in", data={"token": token}).status_code == 303

    def paths(self) -> list[str]:
        """Every path that can be asked for with GET, but for files of ours."""
        found = []
        with self.app.test_request_context():
            for rule in self.app.url_map.iter_rules():
                if (
                    "GET" in rule.methods
                    and "filename" not in rule.arguments
                    and "openapi" not in str(rule)
                ):
                    parts = dict.fromkeys(rule.arguments, 1)
                    found.append(self.app.url_for(rule.endpoint, **parts))
        return sorted({path.partition("?")[0] for path in found})

    def holds(self, path: str, query: dict[str, str]) -> None:
        """Assert that an answer comes, in time, and that it is only text of others."""
        began = time.monotonic()
        is_page = not path.startswith("/api/")
        answer = self.browser.get(path, query_string=query, headers={} if is_page else self.headers)
        assert answer.status_code in (200, 302, 304, 400, 404, 416), (path, answer.status_code)
        assert time.monotonic() - began < SECONDS and len(answer.data) < MOST_BYTES
        if answer.mimetype == "text/html":
            Elements(answer.text).are_harmless()
            assert not UNSHOWN.search(answer.text), path
        elif answer.mimetype == "application/json":
            json.loads(answer.data)


def write(registry: Registry, word: Any, mapping: Any) -> None:
    """Have every column that members write hold what is drawn, one value a column."""
    from medperf_server.models import AuditEntry, db

    with registry.app.app_context():
        for mapper in db.Model.registry.mappers:
            table = mapper.local_table
            values = {
                column.name: mapping() if isinstance(column.type, JSON) else word()
                for column in table.columns
                if isinstance(column.type, JSON | String)
                and not (column.primary_key or column.foreign_keys or column.name in KEPT)
            }
            if mapper.class_ is AuditEntry:
                about = {"entity_type": "benchmark", "entity_id": "1", "action": "update"}
                db.session.execute(insert(table).values({**values, **about}))
            elif values and not mapper.class_.__name__.startswith(("Idempotency", "Upload")):
                first = select(*table.primary_key.columns).limit(1)
                keys = [column for column in table.primary_key.columns]
                found = db.session.execute(first).first()
                if found is not None:
                    same = [key == value for key, value in zip(keys, found, strict=True)]
                    db.session.execute(update(table).where(*same).values(values))
        db.session.commit()


def commands_hold(registry: Registry, command: str) -> None:
    """Assert that a command of the server ends and prints text, which steers no terminal."""
    done = registry.invoke(*command.split())
    assert done.exit_code in (0, 1), (command, done.stderr)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    strange = {char for char in set(done.output) if not char.isprintable() and char not in "\n\t"}
    assert not strange, (command, strange)


QUERIES = st.dictionaries(
    st.sampled_from(["q", "sort", "order", "page", "metric", "since", "until", "state", "offset"]),
    words(stored=True),
    max_size=2,
)


@pytest.mark.parametrize("part", range(2))
def test_what_is_stored_is_only_shown(registry: Registry, cases: int, part: int) -> None:
    pages = Pages(registry)
    paths = pages.paths()
    assert len(paths) > 25

    # What is written takes longer than what shows it: so each case is shown several times.
    @settings(HASTE, max_examples=cases // (10 * SHOWN))
    @given(data=st.data(), shown=several([*paths, *COMMANDS]), query=QUERIES)
    def holds(data: st.DataObject, shown: list[str], query: dict[str, str]) -> None:
        write(
            registry,
            lambda: data.draw(words(stored=True)),
            lambda: data.draw(mappings(stored=True)),
        )
        for one in shown:
            if one in COMMANDS:
                commands_hold(registry, one)
            else:
                pages.holds(one, query)

    holds()


@pytest.mark.parametrize("word", STORABLE, ids=range(len(STORABLE)))
def test_each_word_that_is_known_to_harm_is_shown_on_every_page(
    registry: Registry, word: str
) -> None:
    pages = Pages(registry)
    write(
        registry, lambda: word, lambda: {word: [word, {"\ud800": "\x9b"}], "test_result": {word: 1}}
    )
    for path in pages.paths():
        pages.holds(path, {})
        pages.holds(path, {"q": word, "sort": word})
    for command in COMMANDS:
        commands_hold(registry, command)
