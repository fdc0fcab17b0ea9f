"""Members who speak to a registry, what they submit, and what they are answered."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

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

    def dataset(self, container: int, **changes: Any) -> Body:
        """A dataset of this member that a container prepares, in OPERATION unless `changes` say
        otherwise."""
        made = created(self.post("/datasets/", dataset_body(container, **changes)))
        state = {"state": changes.get("state", "OPERATION")}
        response = self.put(f"/datasets/{made['id']}/", state)
        assert response.status_code == 200, response.text
        operational: Body = response.json()
        return operational


def dataset_body(container: int, **changes: Any) -> Body:
    """What a member sends to submit data that nobody has, and that a container prepares."""
    number = next(NUMBERS)
    return {
        "name": f"dataset-{number}",
        "description": "Two hospitals",
        "location": "Turin",
        "input_data_hash": f"raw{number}",
        "generated_uid": f"prepared{number}",
        "split_seed": 0,
        "data_preparation_mlcube": container,
        "submitted_as_prepared": False,
        **changes,
    }


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


def together(times: int, action: Callable[[int], requests.Response]) -> list[requests.Response]:
    """What `action` answers when called this many times at the same moment."""
    start = Barrier(times)

    def act(number: int) -> requests.Response:
        start.wait()
        return action(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(act, range(times)))


def now(member: Member) -> int:
    """The cursor after everything that has happened."""
    page = member.get("/changes/?limit=1000").json()
    while page["more"]:
        page = member.get(f"/changes/?limit=1000&since={page['next']}").json()
    return int(page["next"])


def since(member: Member, cursor: int) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = member.get(f"/changes/?since={cursor}").json()["changes"]
    return changes


def seen(member: Member, cursor: int) -> list[tuple[str, int, str]]:
    return [(row["type"], row["id"], row["action"]) for row in since(member, cursor)]


def key_body(name: str = "workstation") -> Body:
    """A new public key (Ed25519, PEM)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate().public_key()
    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    return {"name": name, "public_key": key.public_bytes(*form).decode()}
