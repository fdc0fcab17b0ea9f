"""A benchmark's results leave as one file for others: a research object, a table, or JSON."""

import base64
import json
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas
import pytest
from rocrate.rocrate import ROCrate

from medperf_cache import Catalog
from medperf_client.errors import UsageError
from medperf_client.ledger.records import Ledger
from medperf_client.publishing.collection import collected
from medperf_client.publishing.table import COLUMNS
from medperf_client.publishing.writing import CSV, JSON, ROCRATE, export
from tests.support.consortium import Consortium, Member
from tests.support.crates import graph, problems
from tests.support.disks import full, small_disk  # noqa: F401
from tests.support.forks import ROOT
from tests.support.hospital import Hospital, as_committee, released_by

REGISTRY = "https://registry.example.org"
LICENSE = "https://spdx.org/licenses/CC-BY-4.0"
ENDINGS = {ROCRATE: "zip", CSV: "csv", JSON: "json"}
METRICS = [
    {
        "name": "auroc",
        "better": "higher",
        "interval": {"low": "auroc_ci/0", "high": "auroc_ci/1", "level": 0.9},
    },
    {"name": "loss", "better": "lower"},
]
BENCHMARK = {
    **{"id": 1, "name": "cells", "description": "", "owner": 1, "metadata": {"metrics": METRICS}},
    **{"data_preparation_mlcube": 1, "reference_model_mlcube": 2, "data_evaluator_mlcube": 3},
}
FIGURES = {"auroc": 0.9, "auroc_ci": [0.8, 1.0], "loss": -0.5, "by": {"é": 3}, "is_paired": True}
KEY = {"id": 5, "keyid": "../../../escaped", "public_key": "PEM", "owner": 9}


def container(uid: int, **more: Any) -> dict[str, Any]:
    """A container as the registry has it."""
    return {"id": uid, "name": f"container {uid}", "mlcube_hash": f"{uid}" * 64, **more}


def result(uid: int, dataset: int, **more: Any) -> dict[str, Any]:
    """A result of model 2 in benchmark 1."""
    about = {"id": uid, "benchmark": 1, "model": 2, "dataset": dataset, "owner": 9}
    made = {"created_at": "2026-03-01T10:00:00.123456Z", "is_valid": True, "metadata": {}}
    return {**about, **made, "results": FIGURES, **more}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A copy of a registry: two results, one of them signed; of another benchmark a third."""
    catalog = Catalog(tmp_path / "catalog")
    catalog.put("benchmark", BENCHMARK)
    for uid in (1, 2, 3):
        catalog.put("mlcube", container(uid))
    catalog.put("dataset", {"id": 7, "name": "=1+1", "generated_uid": "d" * 64, "owner": 9})
    catalog.put("signing_key", {**KEY, "revoked_at": "2026-04-01T00:00:00Z"})
    envelope = {"payload": "", "signatures": [{"keyid": KEY["keyid"], "sig": ""}]}
    catalog.put("result", result(11, 7, metadata={"statement": envelope, "partial": True}))
    catalog.put("result", result(12, 8, is_valid=False))
    catalog.put("result", {**result(13, 7), "benchmark": 2})
    catalog.fetched_at = "2026-05-01T00:00:00+00:00"
    return catalog


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger in which nothing is yet."""
    return Ledger(tmp_path / "ledger", REGISTRY, lambda: None)


def written(catalog: Catalog, ledger: Ledger, form: str, folder: Path, url: str = "") -> Path:
    """The file of the results of benchmark 1."""
    file, scratch = folder / f"results.{ENDINGS[form]}", folder / "scratch"
    scratch.mkdir()
    export(collected(catalog, REGISTRY, 1), form, file, ledger, scratch, url)
    shutil.rmtree(scratch)
    return file


def test_a_table_has_a_row_for_each_figure_as_pandas_reads_it(
    catalog: Catalog, ledger: Ledger, tmp_path: Path
) -> None:
    table = pandas.read_csv(written(catalog, ledger, CSV, tmp_path))
    assert tuple(table.columns) == COLUMNS
    names = ["auroc", "auroc_ci/0", "auroc_ci/1", "loss", "by/é"]
    assert [*zip(table.result, table.metric, table.value, strict=True)] == [
        (uid, name, value)
        for uid in (11, 12)
        for name, value in zip(names, [0.9, 0.8, 1.0, -0.5, 3], strict=True)
    ]
    assert (table.value.dtype, table.is_partial.dtype) == ("float64", "bool")
    assert [*table.is_partial] == [True] * 5 + [False] * 5
    assert [*table.is_valid] == [True] * 5 + [False] * 5
    assert [*pandas.to_datetime(table.released_at).dt.year] == [2026] * 10
    auroc, low, _, loss, _ = (row for _, row in table[:5].iterrows())
    assert (auroc.low, auroc.high, auroc.level, auroc.better) == (0.8, 1.0, 0.9, "higher")
    assert (loss.better, low.better is loss.better) == ("lower", False)
    assert pandas.isna(loss.low) and pandas.isna(low.level)
    assert auroc.key_revoked_at == "2026-04-01T00:00:00Z" and auroc.model_name == "container 2"
    assert table[5:].signed_by.isna().all() and table[5:].dataset_name.isna().all()


def test_no_cell_is_a_formula_and_a_negative_figure_is_a_number(
    catalog: Catalog, ledger: Ledger, tmp_path: Path
) -> None:
    texts = ["=1+1", "+1", "-1", "@A1", "\t=2", "\r=3", "\n=4", "＝1", "a\n=1", 'a",=1', "'=1"]
    catalog.put("benchmark", {**BENCHMARK, "metadata": None})
    catalog.put("result", result(11, 7, results={text: -0.5 for text in texts}))
    catalog.remove("result", 12)
    table = pandas.read_csv(written(catalog, ledger, CSV, tmp_path))
    assert set(table.dataset_name) == {"'=1+1"} and set(table.value) == {-0.5}
    # White space around a key is not in the name of its figure.
    assert [*table.metric] == [
        *("'=1+1", "'+1", "'-1", "'@A1", "'=2", "'=3", "'=4", "'＝1", "a\n=1", 'a",=1', "'=1")
    ]


def test_json_has_results_with_what_they_are_of(
    catalog: Catalog, ledger: Ledger, tmp_path: Path
) -> None:
    told = json.loads(written(catalog, ledger, JSON, tmp_path).read_text())
    assert told["registry"] == REGISTRY and told["as_of"] == catalog.fetched_at
    assert [one["id"] for one in told["results"]] == [11, 12]
    assert told["results"][0]["results"] == FIGURES
    assert [one["id"] for one in told["entities"]["mlcube"]] == [1, 3, 2]
    assert told["benchmark"]["metadata"]["metrics"] == METRICS
    assert told["lacks"] == [
        "dataset 8 is not in the copy of the registry",
        "result 12 is unsigned",
    ]


def test_the_keys_of_those_who_agreed_go_along(catalog: Catalog) -> None:
    verdicts = [{"signatures": [{"keyid": "second"}]}, {"signatures": [{"keyid": "third"}]}]
    payload = json.dumps({"predicate": {"release": {"verdicts": verdicts}}}).encode()
    envelope = {"payload": base64.b64encode(payload).decode(), "signatures": [{"keyid": "ab"}]}
    catalog.put("result", result(12, 7, metadata={"statement": envelope}))
    for uid, keyid in ((6, "ab"), (7, "second")):
        catalog.put("signing_key", {**KEY, "id": uid, "keyid": keyid})
    found = collected(catalog, REGISTRY, 1)
    assert sorted(found.entities["signing_key"]) == [5, 6, 7]
    assert found.lacks == ["third, the key of who agreed to result 12, is not known here"]


@pytest.mark.parametrize("form", [ROCRATE, CSV, JSON])
def test_whose_a_dataset_is_is_not_told(
    catalog: Catalog, ledger: Ledger, tmp_path: Path, form: str
) -> None:
    for uid in (7, 9):
        catalog.put("dataset", {"id": uid, "name": "n", "generated_uid": "", "owner": 987654321})
    for uid in (11, 12):
        catalog.put("result", {**result(uid, 7), "owner": 987654321})
    catalog.put("signing_key", {**KEY, "owner": 987654321})
    file = written(catalog, ledger, form, tmp_path)
    texts = [file.read_bytes()]
    if form == ROCRATE:
        with zipfile.ZipFile(file) as archive:
            texts = [archive.read(name) for name in archive.namelist()]
    assert not any(b"987654321" in text for text in texts)


def test_nothing_that_others_named_leads_out_of_the_crate(
    catalog: Catalog, ledger: Ledger, tmp_path: Path
) -> None:
    catalog.put("mlcube", container(2, name="<script>../../x"))
    file = written(catalog, ledger, ROCRATE, tmp_path)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        assert archive.read("keys/signing-key-5.pub.pem") == b"PEM"
    assert names[0] == "ro-crate-metadata.json"
    assert not any(".." in name or name.startswith("/") for name in names)
    # What would be opened in a browser has no names in it.
    assert not any(name.endswith(".html") for name in names)
    assert not [*tmp_path.rglob("escaped*")]


@pytest.mark.parametrize("url", [LICENSE, ""])
@pytest.mark.parametrize("profile", ["ro-crate-1.1", "process-run-crate"])
def test_a_crate_is_valid_whatever_is_known(
    catalog: Catalog, ledger: Ledger, tmp_path: Path, profile: str, url: str
) -> None:
    catalog.remove("mlcube", 3)
    catalog.remove("signing_key", 5)
    catalog.put("result", result(12, 8, results={"voxels": 2**60, "note": "é"}, created_at=None))
    file = written(catalog, ledger, ROCRATE, tmp_path, url)
    # An action without a time is as good as is known.
    known = "The Action SHOULD have an endTime in ISO 8601 format"
    found = problems(file, tmp_path, profile, "RECOMMENDED")
    assert [one for one in found if known not in one] == []
    assert problems(file, tmp_path, profile, "REQUIRED") == []


def test_a_crate_that_is_none_is_found_out(tmp_path: Path) -> None:
    crate = ROCrate(version="1.1")
    crate.write(tmp_path / "crate")
    found = problems(tmp_path / "crate", tmp_path, "ro-crate-1.1", "REQUIRED")
    assert any("MUST have a `license` property" in one for one in found)


def test_of_what_the_copy_does_not_know_nothing_is_written(
    catalog: Catalog, ledger: Ledger, tmp_path: Path
) -> None:
    for uid, told in ((3, "no benchmark 3"), (1, "no results of benchmark 1")):
        for one in (11, 12):
            catalog.remove("result", one)
        with pytest.raises(UsageError, match=told):
            collected(catalog, REGISTRY, uid)


def test_the_password_in_a_url_of_a_registry_is_not_told(catalog: Catalog) -> None:
    assert collected(catalog, "https://me:secret@a.org", 1).registry == "https://a.org"


@pytest.mark.parametrize("form", [ROCRATE, CSV, JSON])
def test_where_there_is_no_room_the_earlier_file_stays(
    catalog: Catalog,
    ledger: Ledger,
    tmp_path: Path,
    small_disk: Path,  # noqa: F811
    form: str,
) -> None:
    from medperf_cache.errors import NotWritable

    file, scratch = small_disk / "results", tmp_path / "scratch"
    file.write_text("earlier")
    scratch.mkdir()
    big = {f"figure {number}": number / 7 for number in range(4000)}
    catalog.put("result", result(11, 7, results=big))
    with full(small_disk, but_bytes=8192), pytest.raises(NotWritable, match="No space left"):
        export(collected(catalog, REGISTRY, 1), form, file, ledger, scratch)
    assert [path.name for path in small_disk.iterdir()] == ["results"]
    assert file.read_text() == "earlier"
    (departure,) = ledger.departures()
    assert "No space left" in departure.outcome


def test_what_has_no_place_for_its_line_is_not_written(
    catalog: Catalog,
    tmp_path: Path,
    small_disk: Path,  # noqa: F811
) -> None:
    from medperf_client.errors import Unrecorded

    ledger = Ledger(small_disk / "ledger", REGISTRY, lambda: None)
    with full(small_disk), pytest.raises(Unrecorded):
        written(catalog, ledger, CSV, tmp_path)
    assert not [*tmp_path.glob("*results*")]


@pytest.fixture
def released(hospital: Hospital) -> dict[str, Any]:
    """A signed result in the registry."""
    return released_by(hospital)


@pytest.fixture
def committee(own_consortium: Consortium, released: dict[str, Any]) -> Member:
    """Who is offline, and knows it."""
    committee = as_committee(own_consortium)
    own_consortium.stop()
    return committee


def test_the_committee_exports_what_was_released_and_anybody_verifies_it(
    committee: Member, released: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "results.zip"
    words = ("result", "export", "-b", "1", "-o", str(file), "--license", LICENSE)
    told = committee.json(*words)
    assert (told["results"], told["format"], told["lacks"]) == (1, "rocrate", [])
    assert told["sha256"] == sha256(file.read_bytes()).hexdigest()
    for profile in ("ro-crate-1.1", "process-run-crate"):
        assert problems(file, tmp_path, profile, "RECOMMENDED") == []
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path / "crate")
    crate = ROCrate(tmp_path / "crate")
    run = crate.root_dataset["mentions"]
    document, envelope = (tmp_path / "crate" / one.id for one in run["result"])
    assert envelope.name == document.name == "result-1.json"
    told = json.loads(base64.b64decode(json.loads(envelope.read_text())["payload"]))
    (subject,) = told["subject"]
    assert json.loads(document.read_text()) == released["results"]
    assert run["instrument"][0].id.endswith("/api/v0/mlcubes/2/")
    entities = graph((tmp_path / "crate" / "ro-crate-metadata.json").read_bytes())
    assert entities[run["result"][0].id]["sha256"] == subject["digest"]["sha256"]


def test_what_is_exported_has_its_line_in_the_ledger(committee: Member, tmp_path: Path) -> None:
    before = len(committee.json("ledger", "ls"))
    for form in ("rocrate", "csv", "json"):
        file = tmp_path / f"results.{ENDINGS[form]}"
        words = ("result", "export", "-b", "1", "--format", form, "-o", str(file))
        assert committee.does(*words) == f"Wrote 1 results to {file}.\n"
        row = committee.json("ledger", "ls")[-1]
        assert (row["what"], row["file"]) == ("results", str(file))
        assert row["sha256"] == sha256(file.read_bytes()).hexdigest()
        contents = committee.json("ledger", "view", str(row["line"]))["body"]
        assert contents["format"] == form and [*contents["results"]] == ["1"]
    assert len(committee.json("ledger", "ls")) == before + 3
    assert committee.json("ledger", "verify")["findings"] == []


def test_what_cannot_be_exported_is_refused_by_name(committee: Member, tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    csv = ("result", "export", "--format", "csv", "-o", str(file))
    for words, told in (
        ((*csv, "-b", "2"), "no benchmark 2 here"),
        (("result", "export", "-b", "1", "-o", str(file)), "results.zip"),
        ((*csv, "-b", "1", "--license", LICENSE), "Use: --format rocrate"),
        (("result", "export", "-o", "a.zip", "-b", "1", "--license", "CC-BY"), "is no URL"),
        ((*csv[:3], "csv", "-o", str(tmp_path / "no" / "folder.csv"), "-b", "1"), "folder.csv"),
    ):
        done = committee.run(*words)
        assert done.returncode in (1, 2) and told in done.stderr, done.stderr
    assert not file.exists()


def test_who_has_not_this_software_verifies_it_as_the_document_says(
    committee: Member, tmp_path: Path
) -> None:
    file, crate = tmp_path / "results.zip", tmp_path / "crate"
    committee.does("result", "export", "-b", "1", "-o", str(file))
    with zipfile.ZipFile(file) as archive:
        archive.extractall(crate)
    told = (ROOT / "docs" / "evidence.md").read_text()
    program = told.partition("```python\n")[2].partition("```")[0]
    assert "securesystemslib" in program and "medperf" not in program
    program = program.replace("result-7", "result-1").replace("signing-key-2", "signing-key-1")
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, cwd=crate).returncode == 0
    document = crate / "results" / "result-1.json"
    document.write_text(document.read_text().replace("0.", "1.", 1))
    done = subprocess.run(words, cwd=crate, capture_output=True, text=True)
    assert done.returncode == 1 and "AssertionError" in done.stderr
