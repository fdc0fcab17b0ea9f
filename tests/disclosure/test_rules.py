"""The disclosure check on documents as evaluators and preparators write them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medperf_client import strict_yaml
from medperf_client.disclosure.documents import digest, matches, tree, without
from medperf_client.disclosure.rules import NAMES, Allowed, Rules, check

HERE = Path(__file__).parent
CLEAN = sorted((HERE / "clean").iterdir())
LEAKS = sorted((HERE / "leaks").iterdir())
UNSEEN = HERE / "unseen"
MOST_FALSE_ALARMS = 2


def read(path: Path) -> Any:
    return strict_yaml.read_results(path.read_bytes())


def found(document: Any, **rules: Any) -> set[tuple[str, str]]:
    """The keys and rules of what is found in a document."""
    return {(one.key, one.rule) for one in check(document, Rules(**rules))}


def expected(folder: Path) -> dict[str, dict[str, str]]:
    wanted: dict[str, dict[str, str]] = yaml.safe_load((folder / "expected.yaml").read_text())
    return wanted


def test_the_corpus_is_as_large_as_is_claimed_and_covers_every_rule() -> None:
    assert len(CLEAN) == len(LEAKS) == 20
    wanted = expected(HERE)
    assert {path.name for path in LEAKS} == wanted.keys()
    assert {rule for rules in wanted.values() for rule in rules.values()} == NAMES.keys()


@pytest.mark.parametrize("path", LEAKS, ids=lambda path: path.name)
def test_every_planted_leak_is_found_by_its_key_and_rule(path: Path) -> None:
    assert {*expected(HERE)[path.name].items()} <= found(read(path))


def test_of_twenty_clean_documents_at_most_two_have_a_finding() -> None:
    alarms = {path.name: found(read(path)) for path in CLEAN if found(read(path))}
    assert len(alarms) <= MOST_FALSE_ALARMS, alarms


def test_documents_that_were_written_after_the_rules_fare_as_well() -> None:
    assert {p.name: found(read(p)) for p in (UNSEEN / "clean").iterdir() if found(read(p))} == {}
    wanted = expected(UNSEEN)
    assert {path.name for path in (UNSEEN / "leaks").iterdir()} == wanted.keys()
    for path in (UNSEEN / "leaks").iterdir():
        assert {*wanted[path.name].items()} <= found(read(path)), path.name


@pytest.mark.parametrize(
    "document",
    [
        {"n": 9},
        {"patients": 9},
        {"label_counts": {"a": 40, "b": 9}},
        {"histogram": [40, 9, 30]},
        {"female": 9},
        {"deaths": 9},
        {"events_at_12_months": 9},
        {"class_0_count": 9},
        {"patients_per_site": {"a": 9, "b": 40}},
        {"sample_size": 9},
        {"n_stage_iv": 9},
        {"women": 9},
        {"per_class": [{"name": "a", "support": 9}, {"name": "b", "support": 44}]},
    ],
    ids=str,
)
def test_small_counts_are_found_by_what_their_keys_say(document: Any) -> None:
    assert {rule for _, rule in found(document)} == {"threshold"}
    assert found(document, min_count=9) == set()


@pytest.mark.parametrize(
    "document",
    [
        {"epochs": 3, "num_classes": 4, "class_index": 2, "batch_size": 8, "n_bootstrap": 5},
        {"dice": 1.0, "auc": 1.0, "sensitivity": 1, "hd95": 3.0, "loss": 2, "accuracy": 1.0},
        {"labels": {"background": 0, "liver": 1, "tumor": 2}},
        {"ci": [0.7, 0.9], "ci_lower": 0.7, "threshold": 0.5, "max_epochs": 100, "min_lr": 1e-6},
        {"n": 0, "label_counts": {"a": 40, "b": 0, "c": 50}},
        {"model": "unet", "created_at": "2026-01-02T03:04:05Z", "version": "1.2.0", "ok": True},
        {"folds": 5, "aucs": [0.8, 0.82, 0.79, 0.81, 0.8], "n": 640},
        {"confusion_matrix": {"tp": 50, "fp": 0, "tn": 60, "fn": 0}, "n": 110},
        {"n_patients": 100, "n_lesions": 103},
        {"n_sites": 3, "num_scanners": 2, "n_readers": 4, "case": 3, "visit": 2, "image": 1},
        {"roi": {"x": 10, "y": 4, "w": 100, "h": 90}, "dice_percent": 100.0, "error_percent": 1.0},
        {"study_name": "LIDC", "commit_date": "2025-01-02", "hospital_name": "Northgate"},
        [],
        {},
    ],
    ids=str,
)
def test_figures_of_models_and_settings_are_no_findings(document: Any) -> None:
    assert found(document) == set()


def test_what_is_left_out_can_follow_from_its_total() -> None:
    table = {"cases": 100, "label_counts": {"a": 60, "b": 36, "c": 4}}
    assert found(table) == {("label_counts.c", "threshold")}
    less = without(table, ["label_counts.c"])
    assert less["label_counts"] == {"a": 60, "b": 36, "c": "redacted"}
    assert found(less) == {("label_counts", "differencing")}
    assert found(without(table, ["label_counts.c", "cases"])) == set()
    assert found(without(table, ["label_counts.c", "label_counts.b"])) == set()


def test_a_share_tells_a_count_only_if_it_is_exact_enough() -> None:
    assert found({"n": 400, "prevalence": 0.0125}) == {("prevalence", "differencing")}
    # From 2 to 6, which are small, and from 6 to 10, which may not be.
    assert found({"n": 400, "prevalence": 0.01}) == {("prevalence", "differencing")}
    assert found({"n": 400, "prevalence": 0.02}) == set()
    assert found({"n": 400, "event_percent": 99.0}) == {("event_percent", "differencing")}
    assert found({"n": 400, "prevalence": 1.0}) == {("prevalence", "class-disclosure")}


def test_an_error_rate_tells_of_persons_only_among_few() -> None:
    assert found({"accuracy": 0.95, "n": 20}) == {("accuracy", "differencing")}
    assert found({"accuracy": 0.95, "n": 100}) == set()


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("sub-01", "identifier"),
        ("P6370279", "identifier"),
        ("lost (case_0012)", "identifier"),
        ("BraTS-GLI-00012-000", "identifier"),
        ("anna@hospital.example", "identifier"),
        ("1.2.840.10008.5.1.4.1.1.2", "identifier"),
        ("/data/x", "path"),
        ("C:\\scans\\x", "path"),
        ("ct.nii.gz", "path"),
        ("12.03.1951", "date"),
        ("1951-03-12", "date"),
        ("the man with the pacemaker left", "text"),
        ("x" * 2000, "text"),
        ("cuda:0", None),
        ("RTX-3090", None),
        ("https://example.org/a/b", None),
        ("f" * 64, None),
        ("0.412 0.661 0.438 0.221 0.447 0.583", None),
    ],
)
def test_texts_are_told_apart(value: str, rule: str | None) -> None:
    assert {one for _, one in found({"value": value})} == ({rule} if rule else set())
    # As the name of a key it tells as much.
    assert {one for _, one in found({"table": {value: 0.8}})} == ({rule} if rule else set())


@pytest.mark.parametrize(
    "key",
    ["patient_id", "PatientName", "mrn", "case_ids", "SOPInstanceUID", "subject_code", "email"],
)
def test_what_identifies_is_found_by_its_key_whatever_it_says(key: str) -> None:
    assert found({key: "x1"}) == {(key, "identifier")}


def test_keys_that_name_persons_right_in_the_document_go_with_their_values() -> None:
    document = {"sub-01": {"dice": 0.8}, "mean": 0.8}
    (finding,) = check(document, Rules())
    assert (finding.key, finding.rule, finding.is_name) == ("sub-01", "identifier", True)
    assert without(document, ["sub-01"], ["sub-01"]) == {"mean": 0.8}


def test_what_the_policy_allows_is_no_finding() -> None:
    allowed = Allowed("label_counts.*", "public data", ("threshold",))
    document = {"label_counts": {"a": 40, "b": 4}, "deaths": 4}
    assert found(document, allowed=(allowed,)) == {("deaths", "threshold")}
    assert matches("a.b[2].c", "a.*.c") and not matches("xa.b.c", "a.*.c")


def test_key_paths_are_told_apart_whatever_the_keys_are() -> None:
    document = {"a.b": 1, "a": {"b": 2, "c d": [3]}, "": 4, "0": 5, 'q"]': 6}
    keys = [node.key for node in tree(document).leaves()]
    assert keys == ['["a.b"]', "a.b", "a.c d[0]", '[""]', "0", '["q\\"]"]']


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_large_and_deep_documents_are_checked_in_seconds() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    wide = {f"n_{number}": number for number in range(20_000)}
    shares = {f"prevalence_{number}": 0.01 for number in range(20_000)}
    check({"deep": deep, "wide": wide, "shares": shares, "text": "x" * 250_000, "n": 400}, Rules())
