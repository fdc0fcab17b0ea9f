"""A browser, people at it, and a registry with something on every page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.server.conftest import Member, created
from tests.support.browser import Visitor, chromium
from tests.support.registry import Registry

Visit = Callable[..., Visitor]

REFERENCE = {
    "test_result": {"auroc": 0.912, "accuracy": 0.874, "by_finding": {"effusion": {"auroc": 0.93}}},
    "test_steps": [
        {"step": "prepare", "source": "ran", "seconds": 4.1},
        {"step": "infer", "source": "ran", "seconds": 12.9},
        {"step": "evaluate", "source": "ran", "seconds": 1.2},
    ],
}
ODD = {
    "test_result": {
        "auroc": None,
        "note": "<script>alert(1)</script>",
        "huge": 10**400,
        "loss": -1.25,
        "very" * 60: 0.5,
        "per_patient": [0.1, {"a": [True, {"b": 1e-9}]}],
    },
    "test_steps": [{"step": ["infer"], "seconds": "soon"}, "evaluate", {"seconds": 3}],
}


@dataclass(frozen=True)
class Consortium:
    """A registry with members, and the UIDs that tests look for."""

    registry: Registry
    people: dict[str, Member]
    benchmark: int
    pending_benchmark: int
    private_benchmark: int
    pending: int
    odd: int
    invitation: str

    def token(self, name: str) -> str:
        """The token of one of the people; none for nobody."""
        return self.registry.token_for(self.people[name].email) if name else ""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def cookies() -> dict[str, Any]:
    """The cookies of who has signed in, by token."""
    return {}


@pytest.fixture
def visit(browser: Browser, cookies: dict[str, Any]) -> Iterator[Visit]:
    """Visitors with a browser each: `visit(registry, token)`; signed out without a token.

    At the end of the test nothing may have gone wrong in any of their browsers.
    """
    visitors: list[Visitor] = []

    def visit(registry: Registry, token: str = "") -> Visitor:
        visitors.append(visitor := Visitor(browser, registry.url, cookies.get(token, ())))
        if token and token not in cookies:
            visitor.signs_in(token)
            cookies[token] = visitor.context.cookies()
        return visitor

    yield visit
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for visitor in visitors:
        visitor.context.close()
    assert not complaints


@pytest.fixture(scope="package")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A registry that has been in use for a while."""
    for registry in Registry.serving(tmp_path_factory.mktemp("registry")):
        yield _filled(registry)


def _filled(registry: Registry) -> Consortium:
    names = ("admin", "committee", "models", "newcomer")
    people = {name: Member(registry, name, admin=name == "admin") for name in names}
    admin, committee, models = people["admin"], people["committee"], people["models"]
    private = _approved(admin, committee.benchmark(name="sepsis-onset", is_private=True)["id"])
    created(committee.post(f"/benchmarks/{private}/members/", {"email": models.email}))
    described = {"description": "Which chest radiographs need a radiologist's eye first."}
    benchmark = committee.benchmark(name="chest-xray-triage", metadata=REFERENCE, **described)["id"]
    _approved(admin, benchmark)
    for number in range(10, 36):
        model = models.container(name=f"resnet-{number}")["id"]
        auroc = 1 - number // 2 / 100
        test = {**REFERENCE, "test_result": {"auroc": auroc, "accuracy": auroc - 0.05}}
        pending = requested(models, model, benchmark, test)
        if number < 35:
            _decided(committee, model, benchmark, "REJECTED" if number % 5 == 4 else "APPROVED")
    return Consortium(
        registry,
        people,
        benchmark,
        committee.benchmark(name="brain-tumor-segmentation")["id"],
        private,
        pending,
        requested(models, models.container(name="oddity")["id"], benchmark, ODD),
        registry.command("invite", "create", "invited@example.org", "--quiet").strip()[-47:],
    )


def _approved(admin: Member, uid: int) -> int:
    response = admin.put(f"/benchmarks/{uid}/", {"approval_status": "APPROVED"})
    assert response.status_code == 200, response.text
    return uid


def _decided(committee: Member, model: int, benchmark: int, status: str) -> None:
    reason = {"APPROVED": "", "REJECTED": "Sensitivity for effusion is below 0.8."}[status]
    decision = {"approval_status": status, "reason": reason}
    response = committee.put(f"/mlcubes/{model}/benchmarks/{benchmark}/", decision)
    assert response.status_code == 200, response.text


def requested(member: Member, model: int, benchmark: int, metadata: object) -> int:
    """The UID of a new request to take a model into a benchmark."""
    body = {"model_mlcube": model, "benchmark": benchmark, "metadata": metadata}
    return int(created(member.post("/mlcubes/benchmarks/", body))["id"])
