"""Wrong input: 400 naming the field, whatever it is, and never a 500."""

import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import (
    Body,
    Member,
    benchmark_body,
    container_body,
    created,
    dataset_body,
)
from tests.support.registry import Registry

LONG = "x" * 20_001
WRONG_CONTAINERS: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", 7),
    ("name", None),
    ("name", "line\nbreak"),
    ("git_mlcube_url", ""),
    ("git_mlcube_url", LONG),
    ("git_parameters_url", ["a"]),
    ("mlcube_hash", ""),
    ("mlcube_hash", "with space"),
    ("image_hash", "x" * 129),
    ("state", "operation"),
    ("is_valid", "perhaps"),
    ("metadata", [1]),
    ("metadata", "text"),
]
WRONG_BENCHMARKS: list[tuple[str, Any]] = [
    ("description", LONG),
    ("docs_url", 1),
    ("description", "x" * 21),
    ("docs_url", "http://intranet/docs"),
    ("docs_url", "ftp://example.org/docs"),
    ("docs_url", "documentation"),
    ("docs_url", "https://example.org/".ljust(2084, "x")),
    ("demo_dataset_tarball_url", ""),
    ("demo_dataset_tarball_hash", ""),
    ("data_preparation_mlcube", 0),
    ("data_preparation_mlcube", "1"),
    ("reference_model_mlcube", 2**31),
    ("data_evaluator_mlcube", 1.5),
    ("is_active", 2),
]
WRONG_DATASETS: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "n" * 21),
    ("name", "line\nbreak"),
    ("description", "d" * 21),
    ("location", "l" * 21),
    ("location", "two\nlines"),
    ("input_data_hash", ""),
    ("input_data_hash", "with space"),
    ("generated_uid", "g" * 129),
    ("split_seed", None),
    ("split_seed", "seed"),
    ("split_seed", 2**31),
    ("data_preparation_mlcube", "1"),
    ("data_preparation_mlcube", 2_000_000_000),
    ("is_valid", 1),
    ("submitted_as_prepared", "yes"),
    ("report", []),
    ("generated_metadata", "none"),
]
WRONG_RESULTS: list[tuple[str, Any]] = [
    ("name", "n" * 21),
    ("benchmark", 0),
    ("model", "1"),
    ("results", None),
    ("results", []),
    ("results", 0.9),
    ("metadata", "partial"),
    ("user_metadata", [1]),
    ("is_valid", "true"),
]
NOT_JSON = {
    "nothing": b"",
    "half an object": b'{"name": ',
    "no UTF-8": b"\xff\xfe",
    "NaN": b'{"metadata": {"a": NaN}}',
    "infinity": b'{"metadata": {"a": 1e999}}',
    "NUL": b'{"name": "\\u0000"}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a deep hole": b"[" * 100_000,
    "a number of many digits": b"1" * 10_000,
}


@pytest.mark.one_engine
@pytest.mark.parametrize(("field", "value"), WRONG_CONTAINERS)
def test_a_wrong_field_of_a_container_is_named(model_owner: Member, field: str, value: Any) -> None:
    posted = model_owner.post("/mlcubes/", container_body(**{field: value}))
    assert posted.status_code == 400
    assert list(posted.json()) == [field] and posted.json()[field]


@pytest.mark.one_engine
@pytest.mark.parametrize(("field", "value"), WRONG_BENCHMARKS)
def test_a_wrong_field_of_a_benchmark_is_named(committee: Member, field: str, value: Any) -> None:
    posted = committee.post("/benchmarks/", benchmark_body(committee, **{field: value}))
    assert posted.status_code == 400
    assert list(posted.json()) == [field] and posted.json()[field]


@pytest.mark.one_engine
@pytest.mark.parametrize(("field", "value"), WRONG_DATASETS)
def test_a_wrong_field_of_a_dataset_is_named(
    data_owner: Member, draft: Body, field: str, value: Any
) -> None:
    body = dataset_body(draft["data_preparation_mlcube"], **{field: value})
    posted = data_owner.post("/datasets/", body)
    assert posted.status_code == 400
    assert list(posted.json()) == [field] and posted.json()[field]


@pytest.mark.one_engine
@pytest.mark.parametrize(("field", "value"), WRONG_RESULTS)
def test_a_wrong_field_of_a_result_is_named(
    data_owner: Member, result_body: Body, field: str, value: Any
) -> None:
    posted = data_owner.post("/results/", {**result_body, field: value})
    assert posted.status_code == 400
    assert list(posted.json()) == [field] and posted.json()[field]


@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("/mlcubes/", {"name", "git_mlcube_url", "mlcube_hash"}),
        ("/benchmarks/", {"name", "demo_dataset_tarball_url", "demo_dataset_tarball_hash"}),
        ("/mlcubes/benchmarks/", {"model_mlcube", "benchmark"}),
        (
            "/datasets/",
            {
                *("name", "input_data_hash", "generated_uid", "split_seed"),
                *("data_preparation_mlcube", "submitted_as_prepared"),
            },
        ),
        ("/datasets/benchmarks/", {"dataset", "benchmark", "metadata"}),
        ("/results/", {"benchmark", "model", "dataset", "results"}),
    ],
)
def test_missing_fields_are_named(admin: Member, path: str, needed: set[str]) -> None:
    answer = admin.post(path, {})
    assert answer.status_code == 400
    assert needed <= set(answer.json())


@pytest.mark.one_engine
@pytest.mark.parametrize("field", ["approval_status", "priority"])
def test_a_wrong_decision_is_named(
    committee: Member, requested: Body, pair: str, field: str
) -> None:
    for value in ("approved", 1.5, None, []):
        answer = committee.put(pair, {field: value})
        assert answer.status_code == 400
        assert list(answer.json()) == [field]


@pytest.mark.one_engine
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_refused(stranger: Member, body: bytes) -> None:
    answer = stranger.ask("POST", "/mlcubes/", data=body)
    assert answer.status_code == 400
    assert answer.json()["non_field_errors"]


@pytest.mark.one_engine
@pytest.mark.parametrize("body", [[], "text", 1, None, [{}]])
def test_a_body_is_an_object(stranger: Member, body: Any) -> None:
    answer = stranger.ask("POST", "/mlcubes/", data=json.dumps(body))
    assert answer.status_code == 400
    assert answer.json()["non_field_errors"]


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "query",
    [
        *("mlcubes/?owner=me", "mlcubes/?is_valid=perhaps", "mlcubes/?state=x"),
        *("datasets/?data_preparation_mlcube=a", "datasets/?name=%00", "datasets/?state=x"),
    ],
)
def test_a_wrong_query_is_named(stranger: Member, query: str) -> None:
    answer = stranger.get(f"/{query}")
    assert answer.status_code == 400
    assert list(answer.json()) == [query.partition("?")[2].partition("=")[0]]


@pytest.mark.parametrize("uid", ["0", "99999999", "2147483648", "9" * 40, "-1", "x", "1.0", "%00"])
def test_what_does_not_exist_is_not_found(admin: Member, uid: str) -> None:
    paths = [f"/mlcubes/{uid}/", f"/benchmarks/{uid}/", f"/users/{uid}/"]
    paths += [f"/benchmarks/{uid}/models/", f"/mlcubes/{uid}/benchmarks/{uid}/"]
    paths += [f"/datasets/{uid}/", f"/results/{uid}/", f"/datasets/{uid}/benchmarks/{uid}/"]
    paths += [f"/mlcubes/{uid}/datasets/"]
    paths += [f"/benchmarks/{uid}/{joined}/" for joined in ("datasets", "results")]
    for path in paths:
        answer = admin.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["detail"]


@pytest.mark.parametrize("field", ["metadata", "user_metadata"])
def test_null_is_taken_for_an_empty_object(
    model_owner: Member, committee: Member, approved: Body, field: str
) -> None:
    container = model_owner.container(**{field: None})
    benchmark = committee.benchmark(**{field: None})
    assert container[field] == benchmark[field] == {}
    path = f"/mlcubes/{container['id']}/"
    model_owner.put(path, {"user_metadata": {"kept": 1}})
    assert model_owner.put(path, {"user_metadata": None}).json()["user_metadata"] == {}
    body = {"model_mlcube": container["id"], "benchmark": approved["id"], "metadata": None}
    assert created(model_owner.post("/mlcubes/benchmarks/", body))["metadata"] == {}
    dataset = model_owner.dataset(approved["data_preparation_mlcube"], **{"report": None})
    assert dataset["report"] == {}
    body = {"dataset": dataset["id"], "benchmark": approved["id"], "metadata": None}
    assert created(model_owner.post("/datasets/benchmarks/", body))["metadata"] == {}


@pytest.mark.one_engine
def test_a_body_over_the_limit_is_413(stranger: Member) -> None:
    answer = stranger.post("/mlcubes/", {"name": "x" * 3_000_000})
    assert answer.status_code == 413
    assert "2097152" in answer.json()["detail"]


@pytest.mark.one_engine
def test_a_body_of_unknown_length_is_bounded_too(stranger: Member) -> None:
    parts = (b"x" * 100_000 for _ in range(30))
    assert stranger.ask("POST", "/mlcubes/", data=parts).status_code == 413


@pytest.mark.one_engine
def test_a_method_that_a_path_lacks_is_405(admin: Member) -> None:
    assert admin.delete("/mlcubes/").status_code == 405
    assert admin.post("/me/", {}).status_code == 405


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(string.ascii_letters, max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [
    *(field for field, _ in WRONG_CONTAINERS),
    *(field for field, _ in WRONG_BENCHMARKS),
    *(field for field, _ in WRONG_DATASETS),
    *(field for field, _ in WRONG_RESULTS),
    "dataset",
    "approval_status",
    "priority",
    "benchmark",
    "model_mlcube",
    "email",
    "first_name",
]


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    method=st.sampled_from(["POST", "PUT"]),
    path=st.sampled_from(
        [
            "/mlcubes/",
            "/benchmarks/",
            "/mlcubes/benchmarks/",
            "/mlcubes/1/",
            "/benchmarks/1/",
            "/users/1/",
            "/mlcubes/1/benchmarks/1/",
            "/datasets/",
            "/datasets/1/",
            "/datasets/benchmarks/",
            "/datasets/1/benchmarks/1/",
            "/results/",
            "/results/1/",
        ]
    ),
    body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6) | JSON,
)
def test_no_json_makes_it_fail(admin: Member, method: str, path: str, body: Any) -> None:
    assert admin.ask(method, path, json=body).status_code < 500


def test_metadata_comes_back_as_it_was_sent(model_owner: Member) -> None:
    value = {"é": "日本\U0001f600", "n": [1, 2.5, None, True, 10**30], "deep": {"a": {"b": []}}}
    entity = model_owner.container(metadata=value)
    assert model_owner.get(f"/mlcubes/{entity['id']}/").json()["metadata"] == value


def test_no_request_of_these_tests_failed(served: Registry) -> None:
    statuses = [json.loads(line).get("status", 0) for line in served.log.read_text().splitlines()]
    assert len(statuses) > 1
    assert max(statuses) < 500
