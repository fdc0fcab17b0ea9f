"""A registry on each database engine, members to speak to it, and entities for them to submit."""

from collections.abc import Iterator

import pytest

from tests.support.api import Body, Member, NewMember, created
from tests.support.disks import small_disk  # noqa: F401
from tests.support.registry import Registry


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
def data_owner(join: NewMember) -> Member:
    """Who owns the dataset."""
    return join("data-owner")


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


@pytest.fixture
def draft(data_owner: Member, approved: Body) -> Body:
    """The data owner's dataset, which the benchmark's container is yet to prepare."""
    return data_owner.dataset(approved["data_preparation_mlcube"], state="DEVELOPMENT")


@pytest.fixture
def dataset(data_owner: Member, approved: Body) -> Body:
    """The data owner's dataset, in OPERATION."""
    return data_owner.dataset(approved["data_preparation_mlcube"])


@pytest.fixture
def joining(dataset: Body, approved: Body) -> Body:
    """What is sent to associate the dataset with the approved benchmark."""
    result = {"test_result": {"auroc": 0.93}}
    return {"dataset": dataset["id"], "benchmark": approved["id"], "metadata": result}


@pytest.fixture
def data_pair(dataset: Body, approved: Body) -> str:
    """The path of the association of the dataset with the approved benchmark."""
    return f"/datasets/{dataset['id']}/benchmarks/{approved['id']}/"


@pytest.fixture
def asking(data_owner: Member, joining: Body) -> Body:
    """The data owner's PENDING association."""
    return created(data_owner.post("/datasets/benchmarks/", joining))


@pytest.fixture
def taken(committee: Member, asking: Body, data_pair: str) -> Body:
    """The data owner's association, APPROVED."""
    response = committee.put(data_pair, {"approval_status": "APPROVED"})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def result_body(taken: Body, approved: Body) -> Body:
    """What is sent as the reference model's result on the dataset."""
    return {
        "name": "b1m1d1",
        "benchmark": approved["id"],
        "model": approved["reference_model_mlcube"],
        "dataset": taken["dataset"],
        "results": {"auroc": 0.91},
        "metadata": {"partial": False},
    }


@pytest.fixture
def result(data_owner: Member, result_body: Body) -> Body:
    """The reference model's result on the data owner's dataset."""
    return created(data_owner.post("/results/", result_body))
