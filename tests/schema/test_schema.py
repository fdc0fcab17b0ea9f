"""The OpenAPI document is what the registry does: Schemathesis, with every check it has."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Member, created
from tests.support.forks import IMPORT_ROOTS, ROOT
from tests.support.registry import Registry
from tests.support.tus import begin, send

# Cases a path and method. A full run takes half an hour for each database engine:
# MEDPERF_TEST_SCHEMA_CASES=2000 pytest tests/schema/test_schema.py
CASES = os.environ.get("MEDPERF_TEST_SCHEMA_CASES")
SEED = "20261125"


@pytest.fixture(params=["sqlite", "postgres"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """A registry on each engine, with nothing in it."""
    is_sqlite = request.param == "sqlite"
    url = None if is_sqlite else request.getfixturevalue("postgres").new_database()
    yield from Registry.serving(tmp_path / "registry", url)


@pytest.fixture
def admin(served: Registry) -> Member:
    """Who asks: an admin, so that no refusal hides what is behind it. Some entities are there."""
    from tests.schema.hooks import ENTITIES

    admin = Member(served, "admin", admin=True)
    models = [admin.container()["id"] for _ in range(ENTITIES)]
    preparators: list[int] = []
    for number in range(ENTITIES):
        owner = Member(served, f"owner-{number}")
        made = owner.benchmark(is_private=number % 2 == 0)
        benchmark, preparator = made["id"], made["data_preparation_mlcube"]
        assert admin.put(f"/benchmarks/{benchmark}/", {"approval_status": "APPROVED"}).ok
        created(owner.post(f"/benchmarks/{benchmark}/members/", {"email": admin.email}))
        created(
            admin.post(
                "/mlcubes/benchmarks/", {"model_mlcube": models[number], "benchmark": benchmark}
            )
        )
        # Of each number, like its benchmark.
        dataset = admin.dataset(preparator)["id"]
        sides = {"dataset": dataset, "benchmark": benchmark}
        created(admin.post("/datasets/benchmarks/", {**sides, "metadata": {}}))
        pair = f"/datasets/{dataset}/benchmarks/{benchmark}/"
        assert owner.put(pair, {"approval_status": "APPROVED"}).ok
        created(admin.post("/results/", {**sides, "model": preparator, "results": {"auroc": 1}}))
        preparators.append(preparator)
    # And one more for each, which has not asked yet.
    for preparator in preparators:
        admin.dataset(preparator)
    return admin


@pytest.fixture
def upload(admin: Member) -> str:
    """The ID of an upload that is under way; another file is here already."""
    from tests.schema.hooks import FILE

    send(admin, FILE)
    return str(created(begin(admin, b"some more bytes"))["upload"])


def test_the_registry_keeps_to_its_document(served: Registry, admin: Member, upload: str) -> None:
    # What the engine has no part in is seen once.
    is_sqlite = served.database_url.startswith("sqlite")
    phases = "coverage,fuzzing,stateful" if CASES or is_sqlite else "fuzzing,stateful"
    path = os.pathsep.join([str(ROOT), *IMPORT_ROOTS])
    # A file, so that a run of half an hour can be watched.
    report = served.folder / "schemathesis.txt"
    with report.open("w") as file:
        done = subprocess.run(
            [
                *(sys.executable, "-u", "-m", "schemathesis.cli"),
                *("--config-file", str(Path(__file__).with_name("schemathesis.toml"))),
                *("run", f"{served.url}/api/v0/openapi.json", "--checks", "all"),
                *("--max-examples", CASES or "2", "--seed", SEED, "--phases", phases),
                *("--header", f"Authorization: {admin.session.headers['Authorization']}"),
            ],
            cwd=served.folder,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "NO_PROXY": "127.0.0.1",
                "MEDPERF_TEST_UPLOAD": upload,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    assert done.returncode == 0, report.read_text()
    statuses = [
        json.loads(line)["status"]
        for line in served.log.read_text().splitlines()
        if '"message": "request"' in line
    ]
    assert len(statuses) > 100 and max(statuses) < 500
    assert {200, 201, 204} <= set(statuses)
