"""What being in step with a registry costs: an empty sync, ten changes among many, a list."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.consortium import Member
from tests.support.registry import Registry
from tests.support.relay import Relay

from benchmarks.stage import MEDPERF, environment
from benchmarks.timing import command, compare

CHANGES = 10
FEW, MANY = 100, 100_000
CHANGES_GOAL = 1.5
LISTED, LIST_GOAL = 10_000, 2.0
BYTES_GOAL = 1024


def measure(rounds: int = 9) -> dict[str, Any]:
    """Bytes and requests of an empty sync; 10 changes among 100,000 against 10 among 100."""
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        figures = {"empty_sync": _empty_sync(folder / "empty")}
        figures["changes"] = _changes(folder, rounds)
        figures["list"] = _list(folder / "list", rounds)
        return figures


@contextmanager
def _filled(folder: Path, entities: int) -> Iterator[tuple[Registry, Member]]:
    """A registry with so many containers, and a member who is in step with it."""
    folder.mkdir()
    for registry in Registry.serving(folder / "registry"):
        token = registry.token_for("ada@example.org", admin=True)
        _fill(registry, entities)
        member = Member(folder / "home", registry.url, token)
        member.does("sync")
        yield registry, member


def _fill(registry: Registry, entities: int) -> None:
    """Containers straight into the database, each with its row of the change log."""
    from medperf_server.models import Container, db

    with registry.app.app_context():
        for start in range(0, entities, 5000):
            db.session.add_all(
                Container(
                    name=f"container-{number}",
                    git_mlcube_url=f"https://example.org/{number}.yaml",
                    mlcube_hash=f"{number:064x}",
                    image_hash=f"{number:064x}",
                    owner=1,
                )
                for number in range(start, min(start + 5000, entities))
            )
            db.session.commit()


def _change(registry: Registry, token: str) -> None:
    """Change ten containers, over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    for uid in range(1, CHANGES + 1):
        connection.request("GET", f"/api/v0/mlcubes/{uid}/", headers=headers)
        valid = json.load(connection.getresponse())["is_valid"]
        body = json.dumps({"is_valid": not valid})
        connection.request("PUT", f"/api/v0/mlcubes/{uid}/", body, headers)
        assert connection.getresponse().read()


def _changes(folder: Path, rounds: int) -> dict[str, Any]:
    with (
        _filled(folder / "few", FEW) as (few, few_member),
        _filled(folder / "many", MANY) as (many, many_member),
    ):
        runs = []
        for registry, member in ((many, many_member), (few, few_member)):
            token = member.environment["MEDPERF_TOKEN"]
            sync = command([MEDPERF, "sync"], environment(member), folder)
            runs.append((lambda r=registry, t=token: _change(r, t), sync))
        (change_many, sync_many), (change_few, sync_few) = runs
        return compare(sync_many, sync_few, rounds, CHANGES_GOAL, change_many, change_few)


def _list(folder: Path, rounds: int) -> dict[str, Any]:
    """`benchmark ls` offline with 10,000 benchmarks cached, against `--help`."""
    from medperf_cache import Catalog
    from medperf_client.settings.config import Home

    url = "http://127.0.0.1:9"
    member = Member(folder / "home", url, "mpf_bench")
    folder.mkdir()
    catalog = Catalog(Home(member.home, member.home / "cache").registry(url) / "catalog")
    with catalog.transaction():
        for uid in range(1, LISTED + 1):
            catalog.put("benchmark", _benchmark(uid))
        catalog.fetched_at = "2026-11-25T00:00:00+00:00"
    seen = environment(member)
    ours = command([MEDPERF, "benchmark", "ls", "--offline"], seen, folder)
    return compare(ours, command([MEDPERF, "--help"], seen, folder), rounds, LIST_GOAL)


def _benchmark(uid: int) -> dict[str, Any]:
    return {
        "id": uid,
        "name": f"benchmark-{uid}",
        "description": "Malignant or benign, from fine-needle aspirates",
        "owner": 1,
        "state": "OPERATION",
        "approval_status": "APPROVED",
        "demo_dataset_tarball_url": "https://example.org/demo.tar.gz",
        "demo_dataset_tarball_hash": f"{uid:064x}",
        "data_preparation_mlcube": 1,
        "reference_model_mlcube": 2,
        "data_evaluator_mlcube": 3,
    }


def _empty_sync(folder: Path) -> dict[str, Any]:
    """Bytes both ways, HTTP headers included, and requests, as a relay in between counts them."""
    with _filled(folder, FEW) as (registry, member), Relay(registry.port) as relay:
        subprocess.run(
            [MEDPERF, "sync"],
            env={**environment(member), "http_proxy": f"http://127.0.0.1:{relay.port}"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return {
            "ratio": round(relay.bytes / BYTES_GOAL, 3),
            "goal": 1.0,
            "bytes": relay.bytes,
            "requests": relay.requests,
        }
