"""An unmodified MedPerf v0.1.4 client at work: the very requests it makes, over a plain socket.

The client speaks through `requests` and sends nothing of ours: no idempotency key, no condition.
It sends whole entities with its own defaults, empty strings for what it does not know, and fields
of its own (`for_test`, the aliases `tarball_url` and `tarball_hash`).
"""

import http.client
import json
from typing import Any

import pytest

from tests.server.conftest import Member

Sent = dict[str, Any]


class MedPerf:
    """A member's MedPerf v0.1.4 client."""

    def __init__(self, member: Member) -> None:
        self.uid = member.uid
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


@pytest.fixture
def owner_client(committee: Member) -> MedPerf:
    return MedPerf(committee)


@pytest.fixture
def model_client(model_owner: Member) -> MedPerf:
    return MedPerf(model_owner)


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


def test_the_client_associates_and_decides(
    owner_client: MedPerf, model_client: MedPerf, benchmark: Sent
) -> None:
    model = model_client.post("/mlcubes/", model_client.container(9))["id"]
    request = {
        "approval_status": "PENDING",
        "model_mlcube": model,
        "benchmark": benchmark["id"],
        "metadata": {"test_result": {"AUC": 0.9}},
    }
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


@pytest.mark.parametrize(
    "path", ["/datasets/", "/results/", "/me/datasets/", "/me/datasets/associations/"]
)
def test_the_client_finds_no_data_yet(model_client: MedPerf, path: str) -> None:
    assert model_client.all_of(path) == []
