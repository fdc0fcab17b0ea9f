"""Everything that leaves a site has its line before it goes, and the line cannot be undone."""

import csv
import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from medperf_client.errors import MedPerfError
from medperf_client.ledger.audit import export
from medperf_client.ledger.records import Ledger
from medperf_client.settings.config import Home
from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.disks import full, small_disk  # noqa: F401
from tests.support.hospital import as_committee
from tests.support.ledgers import behind, is_write, lines_of, seen, told, write_of
from tests.support.people import Person, container
from tests.support.proxy import FINE, LOST, Fault, Proxy, Request, in_turn, writes
from tests.support.proxy import proxy as proxied


@pytest.fixture
def proxy(own_consortium: Consortium) -> Iterator[Proxy]:
    """What stands between a site and the registry."""
    with proxied(own_consortium.registry.url) as proxy:
        yield proxy


@pytest.fixture
def site(own_consortium: Consortium, proxy: Proxy, tmp_path: Path) -> Member:
    """A hospital that has fetched the benchmark, and has data in `tmp_path / "data"`."""
    site = behind(own_consortium, proxy, "hospital")
    site.does("benchmark", "fetch", "1")
    shutil.copytree(EXAMPLE / "data" / "demo", tmp_path / "data")
    return site


def submits(site: Member, name: str, *more: str) -> int | str:
    """Submit a container that is nobody's; its UID."""
    files = ("-m", "https://example.org/config.yaml", "--image-hash", "1" * 64)
    hashes = ("--container-config-hash", sha256(name.encode()).hexdigest())
    made = site.json("container", "submit", "--name", name, *files, *hashes, "-y", *more)
    uid: int | str = made["id"]
    return uid


def test_each_write_on_the_road_of_a_hospital_has_its_line_before_it_goes(
    own_consortium: Consortium, proxy: Proxy, site: Member, tmp_path: Path
) -> None:
    early: list[bool] = []

    def look(request: Request) -> Fault:
        if is_write(request):
            lines = lines_of(site).read_text().splitlines()
            *_, digest = write_of(request)
            early.append(any(json.loads(line).get("sha256") == digest for line in lines))
        return FINE

    proxy.faults = look
    data = ("-d", str(tmp_path / "data" / "measurements"), "-l", str(tmp_path / "data/diagnoses"))
    # With the registry there, and with it away.
    site.does("dataset", "submit", "-b", "1", *data, "--name", "north", "-y")
    site.does("dataset", "prepare", "-d", "1", "-y")
    proxy.stop()
    site.does("dataset", "set_operational", "-d", "1", "-y")
    site.does("dataset", "associate", "-d", "1", "-b", "1", "-y")
    assert told(site.json("ledger", "ls")) == seen(proxy)
    proxy.start()
    site.does("sync")
    as_committee(own_consortium).does("association", "approve", "-b", "1", "-d", "1", "-y")
    site.does("sync")
    site.does("benchmark", "run", "-b", "1", "-d", "1")
    proxy.faults = lambda request: LOST if look(request) and is_write(request) else FINE
    site.does("result", "submit", "--all", "-b", "1", "-d", "1", "-y")
    proxy.faults = look
    site.does("sync")

    rows = site.json("ledger", "ls")
    assert told(rows) == seen(proxy)
    assert len(rows) >= 5 and len(early) == len(rows) and all(early)
    paths = [row["path"] for row in rows]
    assert {"/datasets/", "/datasets/benchmarks/", "/results/"} <= set(paths)
    # The answers to one result were lost, each try has its line, and the last one its answer.
    tries = [row for row in rows if row["path"] == "/results/"]
    assert len(tries) > 1 and len({row["key"] for row in tries}) == 1
    assert tries[0]["outcome"].startswith("no answer: ") and tries[-1]["status"] == 201
    assert all(row["at"] <= row["answered_at"] for row in rows)
    assert {row["member"] for row in rows} == {"hospital@example.org"}
    assert {row["registry"] for row in rows} == {proxy.url}
    released = site.json("ledger", "view", str(tries[-1]["line"]))
    assert released["body"]["results"] == site.json("result", "view", "b1m2d1")["results"]
    assert released["answer"]["uid"] == 1
    (whole,) = [r.body for r in proxy.requests if r.method == "POST" and "results" in r.path][-1:]
    assert site.does("ledger", "view", str(tries[-1]["line"]), "--body") == whole.decode()
    assert site.json("ledger", "verify")["findings"] == []

    token = site.environment["MEDPERF_TOKEN"]
    kept = [path for path in lines_of(site).parent.rglob("*") if path.is_file()]
    assert kept and all(token.encode() not in path.read_bytes() for path in kept)
    # Nothing of this is of the cache.
    before = lines_of(site).read_bytes()
    site.does("storage", "gc", "--max-size", "0")
    assert lines_of(site).read_bytes() == before
    assert site.json("ledger", "verify")["findings"] == []


def test_a_file_that_is_uploaded_has_a_line_for_each_piece(
    own_consortium: Consortium, proxy: Proxy
) -> None:
    owner = behind(own_consortium, proxy, "owner")
    folder = own_consortium.candidate
    parameters = folder / "workspace" / "parameters.yaml"
    config = folder / "container_config.yaml"
    files = ("-m", str(config), "--parameters-file", str(parameters))
    files += ("--additional-file", own_consortium.container_options("model_mlp")[-1])
    proxy.faults = in_turn()
    owner.does("container", "submit", "--name", "mine", *files, "--operational", "-y")
    rows = owner.json("ledger", "ls")
    assert told(rows) == seen(proxy)
    pieces = [row for row in rows if row["method"] == "PATCH"]
    assert {row["sha256"] for row in pieces} == {
        sha256(file.read_bytes()).hexdigest() for file in (config, parameters)
    }
    shown = owner.json("ledger", "view", str(pieces[0]["line"]))["sent"]
    assert shown["upload"]["sha256"] == shown["sha256"] and shown["upload"]["offset"] == 0
    refused = owner.run("ledger", "view", str(pieces[0]["line"]), "--body")
    assert refused.returncode == 2 and "of which the digest is kept" in refused.stderr


def test_bundles_and_datasets_that_are_exported_are_told_with_what_is_in_them(
    proxy: Proxy, site: Member, tmp_path: Path
) -> None:
    site.environment["MEDPERF_OFFLINE"] = "1"
    submits(site, "carried")
    bundle, receipt = tmp_path / "queue.bundle", tmp_path / "queue.bundle.receipt"
    site.does("bundle", "export", str(bundle), "--queue")
    (row,) = site.json("ledger", "ls")
    assert (row["what"], row["file"], row["outcome"]) == ("bundle", str(bundle), "written")
    data = bundle.read_bytes()
    assert (row["sha256"], row["bytes"]) == (sha256(data).hexdigest(), len(data))
    shown = site.json("ledger", "view", str(row["line"]))
    assert shown["body"]["format"] == "medperf-bundle-1"
    (entry,) = shown["attached"]["outbox"]
    assert entry["body"]["name"] == "carried"

    del site.environment["MEDPERF_OFFLINE"]
    site.does("sync", "--bundle", str(bundle))
    rows = site.json("ledger", "ls")[1:]
    assert [one["what"] for one in rows] == ["receipt", "request", "receipt"]
    assert rows[-1]["sha256"] == sha256(receipt.read_bytes()).hexdigest()

    data_paths = ("-d", str(tmp_path / "data/measurements"), "-l", str(tmp_path / "data/diagnoses"))
    site.does("dataset", "submit", "-b", "1", *data_paths, "--name", "north", "-y")
    site.does("dataset", "prepare", "-d", "1", "-y")
    site.does("dataset", "export", "-d", "1", "-o", str(tmp_path))
    exported = site.json("ledger", "ls")[-1]
    assert (exported["what"], exported["file"]) == ("dataset", str(tmp_path / "1.tar.gz"))
    assert exported["sha256"] == sha256((tmp_path / "1.tar.gz").read_bytes()).hexdigest()
    contents = site.json("ledger", "view", str(exported["line"]))["body"]
    assert contents["name"] == "north" and "raw/data" in contents["parts"]
    assert site.json("ledger", "verify")["findings"] == []


def test_a_file_that_did_not_become_whole_has_its_line_and_says_why(
    site: Member,
    small_disk: Path,  # noqa: F811
) -> None:
    with full(small_disk, but_bytes=8192):
        refused = site.run("bundle", "export", str(small_disk / "all.bundle"))
    assert refused.returncode == 1 and "cannot be written" in refused.stderr
    (row,) = site.json("ledger", "ls")
    assert (row["what"], row["status"]) == ("bundle", None)
    assert "all.bundle cannot be written: No space left" in row["outcome"]


def test_what_has_no_place_for_its_line_is_not_sent(
    proxy: Proxy,
    site: Member,
    small_disk: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (catalog,) = site.home.glob("registries/*/catalog")
    (small_disk / "ledger").mkdir()
    (catalog.parent / "ledger").symlink_to(small_disk / "ledger")
    proxy.requests.clear()
    with full(small_disk):
        done = site.run("container", "ls")
        assert done.returncode == 0
        assert submits(site, "waits") == "q1"
        refused = site.run("sync")
        assert refused.returncode == 1
        assert "nothing was sent, for the ledger" in refused.stderr
        assert "No space left" in refused.stderr and "Make room there" in refused.stderr
        (entry,) = site.json("queue", "ls")
        # It did not leave, so it may be edited and dropped as before.
        assert entry["state"] == "queued" and "for the ledger" in entry["reason"]
        bundle = site.run("bundle", "export", str(tmp_path / "a.bundle"), "--queue")
        assert bundle.returncode == 1 and "for the ledger" in bundle.stderr
        assert not (tmp_path / "a.bundle").exists()
        assert site.json("queue", "ls")[0]["state"] == "queued"
    assert seen(proxy) == []
    assert site.json("sync")["sent"] == [{"uid": "q1", "as": 4}]
    assert told(site.json("ledger", "ls")) == seen(proxy) and len(seen(proxy)) == 1


def test_commands_at_once_write_one_ledger(proxy: Proxy, site: Member) -> None:
    files = ("-m", "https://example.org/config.yaml", "--image-hash", "1" * 64)
    started = [
        site.start(
            *("container", "submit", "--name", f"at-once-{number}", *files, "-y"),
            *("--container-config-hash", f"{number}" * 64),
        )
        for number in range(4)
    ]
    for process in started:
        _, err = process.communicate()
        assert process.returncode == 0, err
    rows = site.json("ledger", "ls")
    assert sorted(told(rows)) == sorted(seen(proxy)) and len(rows) == 4
    assert site.json("ledger", "verify") | {"last": ""} == {
        **{"lines": 9, "last": "", "findings": [], "notes": []}
    }


def test_a_home_that_never_sent_anything_has_nothing_to_tell(site: Member, tmp_path: Path) -> None:
    assert site.json("ledger", "ls") == []
    assert "Nothing has left for" in site.does("ledger", "verify")
    site.does("ledger", "export", str(tmp_path / "audit.html"))
    assert "What left this site" in (tmp_path / "audit.html").read_text()
    assert list(site.home.glob("registries/*/ledger*")) == []
    missing = site.run("ledger", "view", "3")
    assert missing.returncode == 2 and "by line 3 nothing left" in missing.stderr


def test_who_changes_a_line_is_found_out(site: Member, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        submits(site, name)
    noted = site.json("ledger", "verify")["last"]
    assert site.does("ledger", "verify").splitlines() == [
        *("All 7 lines are as they were written.", f"The last line: {noted}")
    ]
    submits(site, "four")
    site.does("ledger", "verify", "--noted", noted)
    file = lines_of(site)
    text = file.read_bytes()
    file.write_bytes(text.replace(b"two", b"TWO"))
    found = site.run("ledger", "verify")
    assert found.returncode == 1
    assert "line 4 was changed: line 5 has another digest of it" in found.stdout
    page = site.run("ledger", "export", str(tmp_path / "audit.html"))
    assert page.returncode == 1 and "line 4 was changed" in page.stderr
    assert "<li>line 4 was changed" in (tmp_path / "audit.html").read_text()
    # Cut, with the head file made to fit: only who noted a line elsewhere sees it.
    file.write_bytes(b"".join(text.splitlines(keepends=True)[:5]))
    assert "lines 6 to 9 are gone, cut from the end" in site.run("ledger", "verify").stdout
    file.with_name("lines.jsonl").unlink()
    file.parent.with_name("ledger.head").unlink()
    submits(site, "five")
    site.does("ledger", "verify")
    found = site.run("ledger", "verify", "--noted", noted)
    assert found.returncode == 1 and "line 7, which was noted elsewhere, is gone" in found.stdout
    assert site.run("ledger", "verify", "--noted", "7").returncode == 2


def test_an_answer_that_never_came_is_told_as_such(proxy: Proxy, site: Member) -> None:
    proxy.faults = writes(LOST)
    submits(site, "tried")
    first, second = site.json("ledger", "ls")
    assert first["key"] == second["key"] and first["sha256"] == second["sha256"]
    assert first["outcome"].startswith("no answer: ") and second["outcome"] == "201 as 4"
    with pytest.raises(AssertionError, match="the registry refused"):
        submits(site, "tried", "--image-hash", "2" * 64)
    refused = site.json("ledger", "ls")[-1]
    assert refused["status"] == 400 and refused["outcome"].startswith("400: name: ")


def test_large_bodies_lie_beside_the_ledger_and_short_ones_in_it(
    own_consortium: Consortium, proxy: Proxy
) -> None:
    person = Person(own_consortium.registry, proxy)
    large = container("large")
    large.body["user_metadata"] = {"note": "ä" * 5000}
    person.submit(large, "no")
    person.submit(container("short"), "no")
    first, second = person.site().ledger.departures()
    assert "body" not in first.record and first.record["bytes"] > 5000
    assert json.loads(second.record["body"])["name"] == "short"
    sent = [request.body for request in proxy.requests if is_write(request)]
    assert [person.site().ledger.body(one) for one in (first, second)] == sent
    (kept,) = person.home.data.glob("registries/*/ledger/content/??/*")
    assert kept.read_bytes() == sent[0]
    kept.write_bytes(sent[0].replace(b"large", b"Large"))
    (found,) = person.site().ledger.verify().findings
    assert found == f"line 2: its content {kept.name} was changed"
    with pytest.raises(MedPerfError, match="line 2: the content .* was changed"):
        person.site().ledger.body(first)


def test_an_audit_gets_a_page_a_table_or_json(site: Member, tmp_path: Path) -> None:
    submits(site, "shown")
    site.does("bundle", "export", str(tmp_path / "<b>\u202eall.bundle"))
    site.does("ledger", "export", "audit.csv", "--format", "csv", cwd=tmp_path)
    with open(tmp_path / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["request", "bundle"]
    assert rows[0]["path"] == "/mlcubes/" and rows[0]["status"] == "201"
    site.does("ledger", "export", "audit.json", "--format", "json", "--bodies", cwd=tmp_path)
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["ledger"]["findings"] == [] and audit["left"][0]["body"]["name"] == "shown"
    site.does("ledger", "export", "audit.html", "--bodies", cwd=tmp_path)
    page = (tmp_path / "audit.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and '<html lang="en">' in page
    assert audit["ledger"]["last"] in page and "POST /mlcubes/" in page
    assert "&quot;name&quot;: &quot;shown&quot;" in page
    # Nobody's name is markup, and the page needs nothing else.
    assert "/&lt;b&gt;\ufffdall.bundle" in page
    assert "src=" not in page and "<link" not in page and "<script" not in page
    wrong = site.run("ledger", "export", "x.csv", "--format", "csv", "--bodies")
    assert wrong.returncode == 2


@pytest.mark.parametrize(
    "made_up",
    [
        {"event": "write"},
        {"event": "export", "at": 1},
        {"event": ["write"]},
        {"event": "answer", "of": [1]},
        {"event": "answer", "of": 2, "at": "now", "bytes": "x"},
        {"event": "answer", "of": 2, "at": "now", "status": {}, "uid": []},
        {"event": "write", "member": {"email": 1}, "upload": {}, "attached": {"a": 1}},
        {"event": "export", "member": {}, "upload": {}, "attached": {"a": 1}},
    ],
)
def test_lines_that_somebody_made_up_end_nothing_in_a_traceback(
    tmp_path: Path, made_up: dict[str, Any]
) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:9", "mpf_nobody")
    folder = Home(member.home, member.home / "cache").registry("http://127.0.0.1:9") / "ledger"
    ledger = Ledger(folder, "http://127.0.0.1:9", lambda: None)
    ledger.write("POST", "/mlcubes/", b"{}", None)
    whole = {"at": "now", "registry": "", "sha256": "", "bytes": 3, "method": "", "path": ""}
    more = {} if made_up["event"] == "answer" or len(made_up) < 3 else {**whole, "file": "a"}
    ledger.chain.append({**more, "what": "b", **made_up})
    for words in ("ls", "view 2", "view 3", "verify", "export a.html --bodies", "export a.csv"):
        done = member.run("ledger", *words.split(), cwd=tmp_path)
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2), done.stderr
    listed = member.json("ledger", "ls")
    assert listed[0]["path"] == "/mlcubes/"


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "https://a.org", lambda: {"email": "=1+1@example.org"})
    ledger.write("POST", "/mlcubes/", b"{}", None)
    export(ledger, "https://a.org", tmp_path / "audit.csv", "csv", bodies=False)
    assert ",'=1+1@example.org," in (tmp_path / "audit.csv").read_text()


def test_the_password_in_a_url_of_a_registry_is_not_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "https://me:secret@a.org:81/x", lambda: None)
    ledger.write("POST", "/mlcubes/", b"{}", None)
    assert {line.record["registry"] for line in ledger.chain.lines()} == {"https://a.org:81/x"}
