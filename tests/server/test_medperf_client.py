"""An unmodified MedPerf v0.1.4 client at work: the very requests it makes, over a plain socket.

The client speaks through `requests` and sends nothing of ours: no idempotency key, no condition.
It sends whole entities with its own defaults, empty strings for what it does not know, and fields
of its own (`for_test`, the aliases `tarball_url` and `tarball_hash`).
"""

import http.client
import json
from typing import Any

import pytest
import requests

from medperf_server.kinds.benchmark.table import ROLES
from tests.support.api import Member
from tests.support.tus import content, digest, send

Sent = dict[str, Any]


class MedPerf:
    """A member's MedPerf v0.1.4 client."""

    def __init__(self, member: Member) -> None:
        self.uid, self.url = member.uid, member.registry.url
        self.address = ("127.0.0.1", member.registry.port)
        self.headers = {
            "User-Agent": "python-requests/2.31.0",
            "Accept-Encoding": "gzip, deflate",
            "Accept": "*/*",
            "Connection": "keep-alive",
            "Authorization": str(member.session.headers["Authorization"]),
        }

    def _send(self, method: str, path: str, body: Sent | None, expected: int) -> Any:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        headers = dict(self.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, "/api/v0" + path, data, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        # The client takes nothing but this one status for success, and follows no redirect here.
        assert answer.status == expected, f"{method} {path}: {answer.status} {text}"
        return json.loads(text)

    def get(self, path: str) -> Any:
        return self._send("GET", path, None, 200)

    def post(self, path: str, body: Sent) -> Any:
        return self._send("POST", path, body, 201)

    def put(self, path: str, body: Sent) -> Any:
        return self._send("PUT", path, body, 200)

    def all_of(self, path: str, **filters: Any) -> list[Sent]:
        """Every element of a list, page by page, with Python's spelling of the filters."""
        found: list[Sent] = []
        while True:
            query = {**filters, "limit": 32, "offset": len(found)}
            page = self.get(path + "?" + "&".join(f"{k}={v}" for k, v in query.items()))
            found += page["results"]
            if page["next"] is None:
                return found

    def container(self, number: int, **changes: Any) -> Sent:
        """The body of `medperf mlcube submit`, parameters and additional files included."""
        url = f"https://example.org/{self.uid}/{number}"
        return {
            "for_test": False,
            "id": "",
            "name": f"cube{self.uid}x{number}",
            "owner": "",
            "created_at": "",
            "modified_at": "",
            "state": "OPERATION",
            "is_valid": True,
            "git_mlcube_url": f"{url}/mlcube.yaml",
            "mlcube_hash": f"{self.uid:032x}{number:032x}",
            "git_parameters_url": f"{url}/parameters.yaml",
            "parameters_hash": "1" * 64,
            "image_tarball_url": "",
            "image_tarball_hash": "",
            "image_hash": "2" * 64,
            "additional_files_tarball_url": f"{url}/files.tar.gz",
            "additional_files_tarball_hash": "3" * 64,
            "tarball_url": f"{url}/files.tar.gz",
            "tarball_hash": "3" * 64,
            "metadata": {},
            "user_metadata": {},
            **changes,
        }

    def benchmark(self, containers: list[int]) -> Sent:
        """The body of `medperf benchmark submit`."""
        preparation, reference, evaluator = containers
        return {
            "for_test": False,
            "id": "",
            "name": f"bmk{self.uid}",
            "owner": "",
            "created_at": "",
            "modified_at": "",
            "approved_at": "",
            "approval_status": "PENDING",
            "state": "OPERATION",
            "is_valid": True,
            "is_active": True,
            "description": "A benchmark",
            "docs_url": "",
            "demo_dataset_tarball_url": "https://example.org/demo.tar.gz",
            "demo_dataset_tarball_hash": "4" * 64,
            "demo_dataset_generated_uid": "5" * 64,
            "data_preparation_mlcube": preparation,
            "reference_model_mlcube": reference,
            "data_evaluator_mlcube": evaluator,
            "metadata": {"demo_results": {"AUC": 0.9}},
            "user_metadata": {},
        }

    def dataset(self, preparator: int, **changes: Any) -> Sent:
        """The body of `medperf dataset submit`."""
        return {
            "for_test": False,
            "id": "",
            "name": f"data{self.uid}",
            "owner": "",
            "created_at": "",
            "modified_at": "",
            "state": "DEVELOPMENT",
            "is_valid": True,
            "description": "Two scanners",
            "location": "Turin",
            "input_data_hash": "6" * 64,
            # Until it is prepared.
            "generated_uid": "6" * 64,
            "split_seed": 0,
            "data_preparation_mlcube": preparator,
            "metadata": {},
            "generated_metadata": {},
            "user_metadata": {},
            "report": {},
            "submitted_as_prepared": False,
            **changes,
        }

    def result(self, benchmark: int, model: int, dataset: int, **changes: Any) -> Sent:
        """The body of `medperf result submit`."""
        return {
            "for_test": False,
            "id": "",
            "name": f"b{benchmark}m{model}d{dataset}",
            "owner": "",
            "created_at": "",
            "modified_at": "",
            "approved_at": "",
            "approval_status": "PENDING",
            "is_valid": True,
            "benchmark": benchmark,
            "model": model,
            "dataset": dataset,
            # As it writes what is no number.
            "results": {"AUC": 0.9, "loss": "nan", "gap": "-Infinity"},
            "metadata": {"partial": False},
            "user_metadata": {},
            **changes,
        }


@pytest.fixture
def owner_client(committee: Member) -> MedPerf:
    return MedPerf(committee)


@pytest.fixture
def model_client(model_owner: Member) -> MedPerf:
    return MedPerf(model_owner)


@pytest.fixture
def data_client(data_owner: Member) -> MedPerf:
    return MedPerf(data_owner)


@pytest.fixture
def benchmark(owner_client: MedPerf, admin: Member) -> Sent:
    """The committee's benchmark, submitted by the client and approved by an admin."""
    containers = [
        owner_client.post("/mlcubes/", owner_client.container(number))["id"] for number in range(3)
    ]
    made = owner_client.post("/benchmarks/", owner_client.benchmark(containers))
    decided: Sent = MedPerf(admin).put(
        f"/benchmarks/{made['id']}/", {"approval_status": "APPROVED"}
    )
    return decided


def test_the_client_learns_who_it_is(model_client: MedPerf) -> None:
    me = model_client.get("/me/")
    assert me["id"] == model_client.uid
    assert model_client.get(f"/users/{me['id']}/") == me


def test_the_client_submits_what_it_then_reads(model_client: MedPerf) -> None:
    sent = model_client.container(1)
    made = model_client.post("/mlcubes/", sent)
    assert made["owner"] == model_client.uid and made["id"]
    assert {k: made[k] for k in sent if k in made and sent[k] != ""} == {
        k: v for k, v in sent.items() if k in made and v != ""
    }
    assert model_client.get(f"/mlcubes/{made['id']}/") == made


def test_the_client_lists_with_its_filters(model_client: MedPerf) -> None:
    uids = [
        model_client.post("/mlcubes/", model_client.container(number))["id"] for number in range(34)
    ]
    mine = model_client.all_of("/me/mlcubes/", owner=model_client.uid)
    assert [container["id"] for container in mine] == uids
    assert {c["id"] for c in model_client.all_of("/mlcubes/", is_valid=True)} >= set(uids)
    assert model_client.all_of("/mlcubes/", state="DEVELOPMENT", owner=model_client.uid) == []


def test_the_client_submits_a_benchmark(owner_client: MedPerf, benchmark: Sent) -> None:
    uid = benchmark["id"]
    # This path alone the client asks for without its slash.
    assert owner_client.get(f"/benchmarks/{uid}") == benchmark
    assert benchmark in owner_client.all_of("/benchmarks/", approval_status="APPROVED")
    assert owner_client.all_of("/me/benchmarks/", owner=owner_client.uid) == [benchmark]
    assert owner_client.all_of(f"/benchmarks/{uid}/models") == []


def association(model: int, benchmark: Sent) -> Sent:
    """The body of `medperf mlcube associate`."""
    return {
        "approval_status": "PENDING",
        "model_mlcube": model,
        "benchmark": benchmark["id"],
        "metadata": {"test_result": {"AUC": 0.9}},
    }


def test_the_client_associates_and_decides(
    owner_client: MedPerf, model_client: MedPerf, benchmark: Sent
) -> None:
    model = model_client.post("/mlcubes/", model_client.container(9))["id"]
    request = association(model, benchmark)
    made = model_client.post("/mlcubes/benchmarks/", request)
    assert {field: made[field] for field in request} == request
    listed = owner_client.all_of("/me/mlcubes/associations/")
    assert [(one["model_mlcube"], one["approval_status"]) for one in listed] == [(model, "PENDING")]
    path = f"/mlcubes/{model}/benchmarks/{benchmark['id']}/"
    owner_client.put(path, {"approval_status": "APPROVED"})
    owner_client.put(path, {"priority": 5})
    approved = model_client.all_of("/me/mlcubes/associations/")[0]
    assert (approved["approval_status"], approved["priority"]) == ("APPROVED", 5)
    assert approved["approved_at"] > approved["created_at"]
    models = owner_client.all_of(f"/benchmarks/{benchmark['id']}/models")
    assert [one["model_mlcube"] for one in models] == [model]


def test_the_client_sends_whole_entities_back(
    owner_client: MedPerf, model_client: MedPerf, benchmark: Sent
) -> None:
    made = model_client.post("/mlcubes/", model_client.container(1, state="DEVELOPMENT"))
    edited = {**model_client.container(1), **made, "name": f"new{made['id']}"}
    assert model_client.put(f"/mlcubes/{made['id']}/", edited)["name"] == edited["name"]
    closed = {**owner_client.benchmark([0, 0, 0]), **benchmark, "is_active": False}
    assert owner_client.put(f"/benchmarks/{benchmark['id']}/", closed)["is_active"] is False


def test_the_client_can_show_why_it_was_refused(model_client: MedPerf) -> None:
    """It prints each key of a refusal with its value, which is a text or a list of texts."""
    body = model_client.container(1, parameters_hash="", name="")
    refusal = model_client._send("POST", "/mlcubes/", body, 400)
    assert all(isinstance(text, str) for texts in refusal.values() for text in texts)
    missing = model_client._send("GET", "/benchmarks/2000000000", None, 404)
    assert isinstance(missing["detail"], str)


def test_the_client_asks_for_the_version_at_the_root(model_client: MedPerf) -> None:
    answer = requests.get(f"{model_client.url}/version", timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"version": "v0"})


def test_the_client_fetches_what_a_member_keeps_here(
    model_client: MedPerf, model_owner: Member, owner_client: MedPerf
) -> None:
    """It streams a URL with no header of its own, and takes nothing but 200."""
    data = content(3 << 20)
    url = f"{model_client.url}/api/v0{send(model_owner, data)}"
    body = model_client.container(1, git_mlcube_url=url, mlcube_hash=digest(data))
    uid = model_client.post("/mlcubes/", body)["id"]
    cube = owner_client.get(f"/mlcubes/{uid}/")
    with requests.get(cube["git_mlcube_url"], stream=True, timeout=60) as answer:
        assert answer.status_code == 200
        chunks = b"".join(answer.iter_content(chunk_size=10 << 20))
    assert digest(chunks) == cube["mlcube_hash"]


def test_the_client_associates_its_own_model_with_its_own_benchmark(
    owner_client: MedPerf, benchmark: Sent
) -> None:
    """Its server approves that at once, and the client never sends an approval."""
    model = owner_client.post("/mlcubes/", owner_client.container(9))["id"]
    request = association(model, benchmark)
    made = owner_client.post("/mlcubes/benchmarks/", request)
    assert made["approval_status"] == "APPROVED" and made["approved_at"]
    models = owner_client.all_of(f"/benchmarks/{benchmark['id']}/models")
    assert [one["approval_status"] for one in models] == ["APPROVED"]


def test_the_client_is_told_first_that_it_may_not(
    owner_client: MedPerf, model_client: MedPerf, benchmark: Sent
) -> None:
    """Whatever it sends: 403 with a `detail` that it prints."""
    for method, path, body in (
        ("PUT", f"/benchmarks/{benchmark['id']}/", {"name": "x" * 200}),
        ("PUT", f"/mlcubes/{benchmark['reference_model_mlcube']}/", {"state": "NEITHER"}),
        ("POST", "/mlcubes/benchmarks/", {"benchmark": benchmark["id"], "model_mlcube": None}),
    ):
        assert "permission" in model_client._send(method, path, body, 403)["detail"]


def test_nothing_gets_in_that_the_client_could_not_list(
    owner_client: MedPerf, benchmark: Sent
) -> None:
    """It takes a list for broken where one name, description or address is one it refuses."""
    for changes in ({"name": "x" * 21}, {"metadata": []}, {"name": ""}):
        owner_client._send("POST", "/mlcubes/", owner_client.container(8, **changes), 400)
    uids = [benchmark[role] for role in ROLES]
    for changes in (
        {"name": "x" * 21},
        {"description": "x" * 21},
        {"docs_url": "http://intranet/docs"},
        {"docs_url": "ftp://example.org/docs"},
        {"docs_url": "https://example.org/".ljust(2084, "x")},
        {"demo_dataset_tarball_url": ""},
    ):
        owner_client._send("POST", "/benchmarks/", owner_client.benchmark(uids) | changes, 400)
    emptied = {"demo_dataset_tarball_url": ""}
    owner_client._send("PUT", f"/benchmarks/{benchmark['id']}/", emptied, 400)
    for path in ("/mlcubes/", "/benchmarks/"):
        for one in owner_client.all_of(path):
            assert 0 < len(one["name"]) <= 20 and one["metadata"] == dict(one["metadata"])


def test_the_client_may_say_null_for_an_empty_object(model_client: MedPerf) -> None:
    made = model_client.post("/mlcubes/", model_client.container(7, metadata=None))
    assert made["metadata"] == {}


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=abc", "limit=32&offset=none"])
def test_the_client_gets_a_page_whatever_the_limit(model_client: MedPerf, query: str) -> None:
    assert {"count", "next", "results"} <= model_client.get(f"/mlcubes/?{query}").keys()


# What the client says of a dataset, and of a result, that it has read.
READ_OF_DATASETS = {
    *("id", "name", "description", "location", "input_data_hash", "generated_uid", "split_seed"),
    *("data_preparation_mlcube", "state", "is_valid", "generated_metadata", "user_metadata"),
    *("submitted_as_prepared", "created_at", "modified_at"),
}


def prepared(client: MedPerf, preparator: int) -> Sent:
    """What `dataset submit`, `prepare` and `set_operational` leave at the registry."""
    made = client.post("/datasets/", client.dataset(preparator))
    path = f"/datasets/{made['id']}/"
    assert made["state"] == "DEVELOPMENT" and made["owner"] == client.uid
    for status in ("started", "running", "finished"):
        shares = {"Stage 1": "33.300000000000004%"} if status == "running" else {}
        report = {"progress": shares, "execution_status": status}
        assert client.put(path, {"report": report})["report"] == report
    # Exactly these four.
    final = {
        "input_data_hash": f"{made['id']:064x}",
        "generated_uid": f"{client.uid:032x}{made['id']:032x}",
        "generated_metadata": {"cases": 3},
        "state": "OPERATION",
    }
    done: Sent = client.put(path, final)
    assert {name: done[name] for name in final} == final
    return done


def dataset_association(dataset: Sent, benchmark: Sent) -> Sent:
    """The body of `medperf dataset associate`."""
    return {
        "dataset": dataset["id"],
        "benchmark": benchmark["id"],
        "approval_status": "PENDING",
        "metadata": {"test_result": {"AUC": 0.9}},
    }


@pytest.fixture
def measured(data_client: MedPerf, owner_client: MedPerf, benchmark: Sent) -> Sent:
    """A dataset in the benchmark, as the clients of both sides brought it there."""
    dataset = prepared(data_client, benchmark["data_preparation_mlcube"])
    request = dataset_association(dataset, benchmark)
    made = data_client.post("/datasets/benchmarks/", request)
    assert {field: made[field] for field in request} == request
    # `association ls -bd` and `association approve -b -d`.
    waiting = owner_client.all_of("/me/datasets/associations/")
    assert [(one["dataset"], one["approval_status"]) for one in waiting] == [
        (dataset["id"], "PENDING")
    ]
    pair = f"/datasets/{dataset['id']}/benchmarks/{benchmark['id']}/"
    assert owner_client.put(pair, {"approval_status": "APPROVED"})["approval_status"] == "APPROVED"
    (history,) = data_client.get(pair)
    assert history.keys() >= {
        *("approval_status", "initiated_by", "approved_at", "created_at", "modified_at")
    }
    return dataset


def test_the_client_brings_a_dataset_into_operation(
    data_client: MedPerf, model_client: MedPerf, benchmark: Sent
) -> None:
    dataset = prepared(data_client, benchmark["data_preparation_mlcube"])
    assert data_client.all_of("/me/datasets/", owner=data_client.uid) == [dataset]
    for client in (data_client, model_client):
        (listed,) = (one for one in client.all_of("/datasets/") if one["id"] == dataset["id"])
        assert set(listed) == READ_OF_DATASETS
    # `dataset view` reads it, too, and takes it with an owner and without.
    assert model_client.get(f"/datasets/{dataset['id']}/") == listed


def test_the_client_sees_how_its_container_prepares(
    data_client: MedPerf, owner_client: MedPerf, model_client: MedPerf
) -> None:
    """`dataset ls -m`, with the address of who is to be helped; in OPERATION it prints `error`."""
    body = owner_client.container(5, state="DEVELOPMENT")
    preparator = owner_client.post("/mlcubes/", body)["id"]
    path = f"/mlcubes/{preparator}/datasets/"
    dataset = prepared(data_client, preparator)
    (listed,) = owner_client.all_of(path)
    assert listed == dataset and listed["report"]["execution_status"] == "finished"
    assert "@" in owner_client.get(f"/users/{listed['owner']}/")["email"]
    assert "detail" in model_client._send("GET", f"{path}?limit=32&offset=0", None, 403)
    owner_client.put(f"/mlcubes/{preparator}/", {"state": "OPERATION"})
    told = owner_client._send("GET", f"{path}?limit=32&offset=0", None, 400)
    assert set(told) == {"error"}


def test_the_client_runs_a_benchmark_and_sends_results(
    data_client: MedPerf,
    owner_client: MedPerf,
    model_client: MedPerf,
    benchmark: Sent,
    measured: Sent,
) -> None:
    models = []
    for number, priority in ((1, 0), (2, 3)):
        model = model_client.post("/mlcubes/", model_client.container(number))["id"]
        model_client.post("/mlcubes/benchmarks/", association(model, benchmark))
        pair = f"/mlcubes/{model}/benchmarks/{benchmark['id']}/"
        owner_client.put(pair, {"approval_status": "APPROVED"})
        owner_client.put(pair, {"priority": priority})
        models.append(model)
    assert data_client.get(f"/benchmarks/{benchmark['id']}") == benchmark
    listed = data_client.all_of(f"/benchmarks/{benchmark['id']}/models")
    approved = [one["model_mlcube"] for one in listed if one["approval_status"] == "APPROVED"]
    assert approved == models[::-1]
    assert data_client.all_of("/me/results/") == []
    sent = []
    for model in (*approved, benchmark["reference_model_mlcube"]):
        body = data_client.result(benchmark["id"], model, measured["id"])
        made = data_client.post("/results/", body)
        assert {k: v for k, v in body.items() if v != "" and k in made}.items() <= made.items()
        sent.append(made)
    assert data_client.all_of("/me/results/") == sent
    assert owner_client.all_of(f"/benchmarks/{benchmark['id']}/results/") == sent
    for client in (data_client, owner_client):
        assert client.get(f"/results/{sent[0]['id']}/") == sent[0]
    # A plain `result ls` never worked for members.
    for client, path in ((data_client, "/results/"), (model_client, f"/results/{sent[0]['id']}/")):
        assert "detail" in client._send("GET", path, None, 403)


def test_the_client_sends_the_same_result_twice_and_in_part(
    data_client: MedPerf, benchmark: Sent, measured: Sent
) -> None:
    reference = benchmark["reference_model_mlcube"]
    body = data_client.result(benchmark["id"], reference, measured["id"])
    partial = {**body, "metadata": {"partial": True}}
    made = [data_client.post("/results/", one) for one in (body, body, partial)]
    assert len({one["id"] for one in made}) == 3
    assert [one["metadata"]["partial"] for one in made] == [False, False, True]


def test_the_client_withdraws_ends_and_asks_again(
    data_client: MedPerf, owner_client: MedPerf, benchmark: Sent
) -> None:
    dataset = prepared(data_client, benchmark["data_preparation_mlcube"])
    request = dataset_association(dataset, benchmark)
    pair = f"/datasets/{dataset['id']}/benchmarks/{benchmark['id']}/"
    data_client.post("/datasets/benchmarks/", request)
    data_client._send("PUT", pair, {"approval_status": "APPROVED"}, 400)
    data_client.put(pair, {"approval_status": "REJECTED"})
    data_client.post("/datasets/benchmarks/", request)
    owner_client.put(pair, {"approval_status": "APPROVED"})
    ended = {**request, "approval_status": "REJECTED"}
    assert data_client.post("/datasets/benchmarks/", ended)["approved_at"]
    statuses = [one["approval_status"] for one in data_client.get(pair)]
    assert statuses == ["REJECTED", "APPROVED", "REJECTED"]


def test_the_client_is_refused_in_words_that_it_can_print(
    data_client: MedPerf, model_client: MedPerf, benchmark: Sent, measured: Sent
) -> None:
    path, pair = f"/datasets/{measured['id']}/", f"/datasets/{measured['id']}/benchmarks"
    result = data_client.result(benchmark["id"], 1, measured["id"])
    for client, method, where, body, status in (
        (data_client, "PUT", path, {"report": {"execution_status": "failed"}}, 400),
        (data_client, "PUT", path, {"state": "DEVELOPMENT"}, 400),
        (model_client, "PUT", path, {"name": "mine"}, 403),
        (model_client, "PUT", "/datasets/2000000000/", {"name": "mine"}, 403),
        (model_client, "GET", "/datasets/2000000000/", None, 404),
        (model_client, "GET", "/results/2000000000/", None, 403),
        (model_client, "POST", "/results/", result, 403),
        (data_client, "POST", "/results/", {**result, "dataset": 2_000_000_000}, 403),
        (data_client, "POST", "/results/", {**result, "benchmark": 2_000_000_000}, 400),
        (data_client, "POST", "/results/", {**result, "model": 2_000_000_000}, 400),
        (data_client, "GET", f"{pair}/2000000000/", None, 404),
        (model_client, "POST", "/datasets/benchmarks/", {"dataset": measured["id"]}, 403),
        (
            data_client,
            "POST",
            "/datasets/benchmarks/",
            dataset_association(measured, benchmark),
            400,
        ),
    ):
        told = client._send(method, where, body, status)
        assert told and all(
            isinstance(text, str) or all(isinstance(one, str) for one in text)
            for text in told.values()
        )


def test_no_dataset_gets_in_that_the_client_could_not_list(
    data_client: MedPerf, benchmark: Sent, measured: Sent
) -> None:
    preparator = benchmark["data_preparation_mlcube"]
    for field in ("name", "description", "location"):
        data_client._send(
            "POST", "/datasets/", data_client.dataset(preparator, **{field: "x" * 21}), 400
        )
    body = data_client.result(benchmark["id"], benchmark["reference_model_mlcube"], measured["id"])
    data_client._send("POST", "/results/", {**body, "name": "x" * 21}, 400)
    data_client._send("POST", "/results/", {**body, "results": [0.9]}, 400)
    made = data_client.post("/results/", {**body, "name": "", "metadata": None})
    assert made["metadata"] == {"partial": False}
    for one in (*data_client.all_of("/datasets/"), *data_client.all_of("/me/datasets/")):
        assert all(len(one[field]) <= 20 for field in ("name", "description", "location"))
        for field in ("generated_metadata", "user_metadata"):
            assert isinstance(one[field], dict)
