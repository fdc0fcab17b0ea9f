"""The cache's own commands: what is here, whether it is whole, what may go."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_cache.private import Private
from medperf_client.errors import Offline, WrongHash
from medperf_client.settings.config import Home
from medperf_client.transfer.fetcher import Fetcher
from tests.support.badhost import answer, bad_host
from tests.support.consortium import Member


def test_the_cache_is_listed_verified_mended_and_emptied(newcomer: Member) -> None:
    newcomer.json("test", "run", "--benchmark", "1", "--model", "2")
    listed = newcomer.json("storage", "ls")
    kinds = {item["kind"] for item in listed["items"]}
    assert kinds == {"blob", "tree", "log"} and listed["folder"] == str(newcomer.home / "cache")
    assert listed["bytes"] == sum(item["bytes"] for item in listed["items"]) > 0
    assert newcomer.json("storage", "verify") == {
        "damaged": [],
        "removed": False,
        "damaged_shared": [],
        "missing_shared": [],
    }

    blob = next(item["sha256"] for item in listed["items"] if item["kind"] == "blob")
    path = Path(listed["folder"], "blobs", blob[:2], blob)
    path.chmod(0o600)
    path.write_bytes(b"rotten")
    found = newcomer.run("storage", "verify")
    assert found.returncode == 1 and blob in found.stdout
    assert "medperf storage verify --remove" in found.stderr
    assert [d["expected"] for d in newcomer.json("storage", "verify", "--remove")["damaged"]] == [
        blob
    ]
    assert newcomer.json("storage", "verify")["damaged"] == []
    assert newcomer.json("test", "run", "--benchmark", "1", "--model", "2")["passed"]

    assert newcomer.json("storage", "gc")["removed"] == []
    emptied = newcomer.json("storage", "gc", "--unused-days", "0")
    assert emptied["bytes"] > 0 and newcomer.json("storage", "ls")["items"] == []
    # Reports and the copy of the registry are no cache.
    assert len(newcomer.json("test", "ls")) == 2
    assert "breast-cancer" in newcomer.does("benchmark", "ls", "--offline")


def test_what_dead_processes_left_of_private_data_goes_and_nothing_else(tmp_path: Path) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:1")
    home = Home(member.home, member.home / "cache")
    private = Private(home.registry("http://127.0.0.1:1") / "datasets" / ".private")
    digest = private.blobs.add([b"a patient"])
    with private.scratch() as area:
        (area / "stage").touch()
        member.does("storage", "gc", "--unused-days", "0")
        assert (area / "stage").exists()
        left = area.rename(area.with_name("left"))
    member.does("storage", "gc", "--unused-days", "0", "--max-size", "0")
    assert not left.exists() and digest in private.blobs


def test_the_name_of_a_damaged_file_does_not_steer_the_terminal(tmp_path: Path) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:1")
    tree = member.home / "cache" / "trees" / "00" / ("0" * 64)
    tree.mkdir(parents=True)
    (tree / "\x1b[2J\u202ename").symlink_to("/")
    found = member.run("storage", "verify")
    assert found.returncode == 1 and " [2J name is a link to /" in found.stdout
    assert all(char.isprintable() or char == "\n" for char in found.stdout)


def test_what_is_unfinished_and_what_was_rejected_is_listed_too(tmp_path: Path) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:1")
    fetcher = Fetcher(Storage(member.home / "cache"), first_wait_seconds=0)
    replies = {
        "/half": answer("200 OK", b"half", "Content-Length: 9"),
        "/wrong": answer("200 OK", b"wrong"),
    }
    with bad_host(lambda path: replies[path]) as host:
        with pytest.raises(Offline):
            fetcher.fetch(f"{host.url}/half")
        with pytest.raises(WrongHash):
            fetcher.fetch(f"{host.url}/wrong", "0" * 64)
    listed = member.json("storage", "ls")
    assert sorted((i["kind"], i["url"], i["sha256"], i["bytes"]) for i in listed["items"]) == [
        ("partial", f"{host.url}/half", None, 4),
        ("rejected", None, sha256(b"wrong").hexdigest(), 5),
    ]
    assert listed["bytes"] == 9
    shown = member.does("storage", "ls")
    assert f"{host.url}/half" in shown and sha256(b"wrong").hexdigest() in shown

    member.does("storage", "gc")
    assert member.json("storage", "ls") == listed
    member.does("storage", "gc", "--unused-days", "0")
    assert member.json("storage", "ls")["items"] == []


def test_logs_are_listed_go_with_their_report_and_when_they_are_old(newcomer: Member) -> None:
    for _ in range(3):
        newcomer.json("test", "run", "--benchmark", "1", "--model", "2", "--no-cache")
    first, second, third = (report["uid"] for report in newcomer.json("test", "ls"))

    def tests_with_logs() -> set[str]:
        items = newcomer.json("storage", "ls")["items"]
        paths = [Path(item["path"]) for item in items if item["kind"] == "log"]
        assert all(path.is_file() for path in paths)
        return {path.parent.name for path in paths}

    assert tests_with_logs() == {first, second, third}
    newcomer.does("test", "rm", first, "latest")
    assert [report["uid"] for report in newcomer.json("test", "ls")] == [second]
    assert tests_with_logs() == {second}
    assert f"{second}/prepare.log" in newcomer.does("storage", "ls")
    gone = newcomer.run("test", "rm", first)
    assert gone.returncode == 2 and "medperf test ls" in gone.stderr

    # One that was killed has no report.
    (report,) = newcomer.home.glob("registries/*/reports/*.json")
    old = report.with_name("20200101-000000-abcd") / "infer.log"
    old.parent.mkdir()
    old.write_bytes(bytes(1000))
    os.utime(old, (0, 0))
    done = newcomer.json("storage", "gc")
    assert done == {"removed": [], "logs": [str(old)], "bytes": 1000} and not old.parent.exists()
    size = newcomer.json("storage", "ls")["bytes"]
    assert newcomer.json("storage", "gc", "--max-size", str(size))["logs"] == []
    # What the cache leaves of it is for the logs.
    first = newcomer.json("storage", "gc", "--max-size", str(size - 1))
    assert len(first["logs"] + first["removed"]) == 1
    newcomer.json("storage", "gc", "--unused-days", "0")
    assert tests_with_logs() == set() and newcomer.json("test", "view", "latest")["passed"]


def test_a_damaged_report_is_named_with_the_way_out(newcomer: Member) -> None:
    newcomer.json("test", "run", "--benchmark", "1", "--model", "2")
    (report,) = newcomer.home.glob("registries/*/reports/*.json")
    for damage in ("{", "[1]", "{}", "\udcff"):
        report.write_bytes(damage.encode("utf-8", "surrogateescape"))
        for words in (("test", "ls"), ("test", "view", "latest")):
            done = newcomer.run(*words)
            assert done.returncode == 1 and str(report) in done.stderr
            assert "Delete it" in done.stderr and "Traceback" not in done.stderr
    newcomer.does("test", "rm", "latest")
    assert newcomer.json("test", "ls") == []


def test_a_damaged_catalog_is_no_traceback(newcomer: Member) -> None:
    newcomer.json("benchmark", "ls")
    (catalog,) = newcomer.home.glob("registries/*/catalog/cache.db")
    catalog.write_bytes(b"no database at all" * 1000)
    for leftover in catalog.parent.glob("cache.db-*"):
        leftover.unlink()
    done = newcomer.run("benchmark", "ls")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
