"""A registry on each database engine, members to speak to it, and entities for them to submit."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.support.registry import Registry

NUMBERS = itertools.count(1)

Body = dict[str, Any]
NewMember = Callable[..., "Member"]


class Member:
    """Somebody with a token, and what they submit to the registry."""

    def __init__(self, registry: Registry, name: str, admin: bool = False) -> None:
        self.registry = registry
        self.email = f"{name}{next(NUMBERS)}@example.org"
        self.session = requests.Session()
        self.session.trust_env = False  # No proxy stands between a test and its registry.
        token = registry.token_for(self.email, admin)
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.uid = self.get("/me/").json()["id"]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request to a path of the API."""
        url = f"{self.registry.url}/api/v0{path}"
        return self.session.request(method, url, timeout=60, **options)

    def get(self, path: str, **headers: str) -> requests.Response:
        """GET a path."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, key: str | None = None) -> requests.Response:
        """POST a body, with an Idempotency-Key if one is given."""
        return self.ask("POST", path, json=body, headers={"Idempotency-Key": key} if key else {})

    def put(self, path: str, body: Any, key: str | None = None) -> requests.Response:
        """PUT a body, with an Idempotency-Key if one is given."""
        return self.ask("PUT", path, json=body, headers={"Idempotency-Key": key} if key else {})

    def delete(self, path: str) -> requests.Response:
        """DELETE a path."""
        return self.ask("DELETE", path)

    def container(self, **changes: Any) -> Body:
        """A container of this member, in OPERATION unless `changes` say otherwise."""
        return created(self.post("/mlcubes/", container_body(**changes)))

    def benchmark(self, **changes: Any) -> Body:
        """A PENDING benchmark of this member, with one new container in all its roles."""
        return created(self.post("/benchmarks/", benchmark_body(self, **changes)))


def created(response: requests.Response) -> Body:
    """The entity of a response that must be 201."""
    assert response.status_code == 201, response.text
    return response.json()


def container_body(**changes: Any) -> Body:
    """What a member sends to submit a container that nobody has submitted."""
    number = next(NUMBERS)
    return {
        "name": f"container-{number}",
        "git_mlcube_url": "https://example.org/container_config.yaml",
        "mlcube_hash": f"config{number}",
        "image_hash": f"sha256:{number}",
        "state": "OPERATION",
        **changes,
    }


def benchmark_body(submitter: Member, **changes: Any) -> Body:
    """What a member sends to submit a benchmark, its one container registered here."""
    container = submitter.container()["id"]
    return {
        "name": f"benchmark-{next(NUMBERS)}",
        "description": "Benign or malignant",
        "docs_url": "https://example.org/docs",
        "demo_dataset_tarball_url": "https://example.org/demo.tar.gz",
        "demo_dataset_tarball_hash": "demo",
        "demo_dataset_generated_uid": "generated",
        "state": "OPERATION",
        "data_preparation_mlcube": container,
        "reference_model_mlcube": container,
        "data_evaluator_mlcube": container,
        **changes,
    }


@pytest.fixture(scope="session")
def sqlite_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry on SQLite."""
    yield from Registry.serving(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres_registry(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Registry]:
    """A registry on PostgreSQL."""
    cluster = request.getfixturevalue("postgres")
    yield from Registry.serving(tmp_path_factory.mktemp("pg"), cluster.new_database())


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def served(request: pytest.FixtureRequest) -> Registry:
    """The registry that the tests of an engine share."""
    registry: Registry = request.getfixturevalue(f"{request.param}_registry")
    return registry


@pytest.fixture
def join(served: Registry) -> NewMember:
    """Admits a new member: `join("ada")`, `join("root", admin=True)`."""
    return lambda name, admin=False: Member(served, name, admin)


@pytest.fixture(scope="session")
def admin(served: Registry) -> Member:
    """Who approves benchmarks."""
    return Member(served, "admin", admin=True)


@pytest.fixture
def committee(join: NewMember) -> Member:
    """Who owns the benchmark."""
    return join("committee")


@pytest.fixture
def model_owner(join: NewMember) -> Member:
    """Who owns the model."""
    return join("model-owner")


@pytest.fixture
def stranger(join: NewMember) -> Member:
    """A member who owns nothing."""
    return join("stranger")


@pytest.fixture
def approved(committee: Member, admin: Member) -> Body:
    """The committee's benchmark, approved."""
    uid = committee.benchmark()["id"]
    response = admin.put(f"/benchmarks/{uid}/", {"approval_status": "APPROVED"})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def model(model_owner: Member) -> Body:
    """The model owner's container, in OPERATION."""
    return model_owner.container()


@pytest.fixture
def pair(model: Body, approved: Body) -> str:
    """The path of the association of the model with the approved benchmark."""
    return f"/mlcubes/{model['id']}/benchmarks/{approved['id']}/"


@pytest.fixture
def request_body(model: Body, approved: Body) -> Body:
    """What is sent to associate the model with the approved benchmark."""
    return {
        "model_mlcube": model["id"],
        "benchmark": approved["id"],
        "approval_status": "PENDING",
        "metadata": {"test_result": {"auroc": 0.97}},
    }


@pytest.fixture
def requested(model_owner: Member, request_body: Body) -> Body:
    """The model owner's PENDING association."""
    return created(model_owner.post("/mlcubes/benchmarks/", request_body))
