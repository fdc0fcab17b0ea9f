"""A registry that has been in use for a while, with something on every page."""

from dataclasses import dataclass

from tests.support.api import Member, created, key_body
from tests.support.disclosures import CHECKED
from tests.support.rankings import DESCRIBED, Trial, trial
from tests.support.registry import Registry

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
    # The path that stops mails to somebody.
    stop: str
    # Of the data owner: a dataset that is being prepared, with what container; a request that
    # waits; a result.
    preparing: int
    draft: int
    asking: int
    result: int
    # A benchmark with models at several sites; more people are its `judges`, and one `clinic`.
    ranked: Trial

    def token(self, name: str) -> str:
        """The token of one of the people; none for nobody."""
        return self.registry.token_for(self.people[name].email) if name else ""


def filled(registry: Registry) -> Consortium:
    """The registry, with members and what they did."""
    names = ("admin", "committee", "models", "site", "newcomer")
    people = {name: Member(registry, name, admin=name == "admin") for name in names}
    admin, committee, models = people["admin"], people["committee"], people["models"]
    private = _approved(admin, committee.benchmark(name="sepsis-onset", is_private=True)["id"])
    created(committee.post(f"/benchmarks/{private}/members/", {"email": models.email}))
    described = {"description": "Chest x-ray triage"}
    benchmark = committee.benchmark(name="chest-xray-triage", metadata=REFERENCE, **described)["id"]
    _approved(admin, benchmark)
    for number in range(10, 36):
        model = models.container(name=f"resnet-{number}")["id"]
        auroc = 1 - number // 2 / 100
        test = {**REFERENCE, "test_result": {"auroc": auroc, "accuracy": auroc - 0.05}}
        pending = requested(models, model, benchmark, test)
        if number < 35:
            _decided(committee, model, benchmark, "REJECTED" if number % 5 == 4 else "APPROVED")
    pending_benchmark = committee.benchmark(name="brain-tumor-segment")["id"]
    odd = requested(models, models.container(name="oddity")["id"], benchmark, ODD)
    invitation = registry.command("invite", "create", "invited@example.org", "--quiet")
    measured = _measured(people["site"], committee, models, benchmark)
    lost, _ = (created(people["site"].post("/keys/", key_body(name))) for name in ("old", "new"))
    assert people["site"].put(f"/keys/{lost['id']}/", {"is_revoked": True}).ok
    ranked = trial(registry, metrics=DESCRIBED)
    ranked.release(0, 0, {"auroc": 2}, metadata={"partial": True})
    people |= {"judges": ranked.committee, "clinic": ranked.data_owners[1]}
    return Consortium(
        *(registry, people, benchmark, pending_benchmark, private, pending, odd),
        invitation.strip()[-47:],
        _stop(people["models"]),
        *measured,
        ranked,
    )


def _stop(member: Member) -> str:
    from medperf_server.notices.choices import stop_path

    with member.registry.app.app_context():
        return stop_path(member.uid)


def _measured(
    site: Member, committee: Member, models: Member, benchmark: int
) -> tuple[int, int, int, int]:
    """What a data owner does: a dataset that is being prepared, one that asks, one that has
    results; the UIDs that `Consortium` names."""
    draft = models.container(name="prepare-x-rays", state="DEVELOPMENT")["id"]
    preparing = site.dataset(draft, name="Torino 2026", state="DEVELOPMENT")["id"]
    report = {"execution_status": "running", "progress": {"Convert": "66.7%", "Review": "33.3%"}}
    assert site.put(f"/datasets/{preparing}/", {"report": report}).ok
    known = committee.get(f"/benchmarks/{benchmark}/").json()
    taken, asking = (
        site.dataset(known["data_preparation_mlcube"], name=name)["id"]
        for name in ("Chest clinic 2024", "Chest clinic 2025")
    )
    requests = []
    for dataset in (taken, asking):
        body = {"dataset": dataset, "benchmark": benchmark, "metadata": REFERENCE}
        requests.append(created(site.post("/datasets/benchmarks/", body))["id"])
    decision = {"approval_status": "APPROVED", "reason": "As agreed"}
    assert committee.put(f"/datasets/{taken}/benchmarks/{benchmark}/", decision).ok
    body = {
        "benchmark": benchmark,
        "model": known["reference_model_mlcube"],
        "dataset": taken,
        "results": {"auroc": 0.887, "note": "without lateral views"},
        "metadata": {"partial": True, "disclosure": CHECKED},
    }
    return preparing, draft, requests[1], created(site.post("/results/", body))["id"]


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
