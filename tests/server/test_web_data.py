"""Pages for data owners and committees: datasets, how far they are, requests, results of sites."""

import pytest

from tests.server.visitor import Elements, signed_in, table_of
from tests.support.api import Body, Member, created
from tests.support.disclosures import CHECKED

# What they show is what the API tells, and its tests ask both engines.
pytestmark = pytest.mark.one_engine

MINE = "how far they are, and what waits for whom"


def text_of(page: str, caption: str) -> list[list[str]]:
    """A table's cells, each on one line."""
    return [[" ".join(cell.split()) for cell in row] for row in table_of(page, caption)]


def test_everybody_finds_a_dataset_by_what_it_says(stranger: Member, dataset: Body) -> None:
    visitor = signed_in(stranger)
    (row,) = text_of(
        visitor.opens(f"/datasets/?q={dataset['name']}&state=OPERATION").text, "Datasets of"
    )
    assert row[:4] == [dataset["name"], "operation", str(dataset["id"]), "Turin"]
    none = visitor.opens(f"/datasets/?q={dataset['name']}&state=DEVELOPMENT").text
    assert f"None with “{dataset['name']}” in it" in none
    page = visitor.opens(f"/datasets/{dataset['id']}").text
    for value in (dataset["input_data_hash"], dataset["generated_uid"], dataset["description"]):
        assert value in page
    assert "What to run next" not in page and "Owner" not in page and "History" not in page


def test_the_statistics_are_shown_and_escaped(data_owner: Member, draft: Body) -> None:
    statistics = {"cases": 12, "note": "<b>bold</b>"}
    data_owner.put(f"/datasets/{draft['id']}/", {"generated_metadata": statistics})
    page = signed_in(data_owner).opens(f"/datasets/{draft['id']}").text
    assert "&#34;cases&#34;: 12" in page and "&lt;b&gt;bold" in page


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ({}, "nothing told yet"),
        ({"execution_status": "started"}, "started"),
        (
            {"execution_status": "running", "progress": {"Stage 1": "33.300000000000004%"}},
            "running: Stage 1 33.3%",
        ),
        ({"progress": {"A": "nan%", "B": 7, "C": "half"}}, "nothing told yet: A nan%, C half"),
        ({"execution_status": ["odd"], "progress": "none"}, "nothing told yet"),
    ],
)
def test_an_owner_sees_how_far_their_preparation_is(
    data_owner: Member, draft: Body, report: Body, told: str
) -> None:
    data_owner.put(f"/datasets/{draft['id']}/", {"report": report})
    visitor = signed_in(data_owner)
    for path in ("/", "/datasets/mine"):
        (row,) = text_of(visitor.opens(path).text, MINE)
        assert row[0] == draft["name"] and row[3] == told
    assert visitor.opens(f"/datasets/{draft['id']}").status_code == 200


def waits(member: Member) -> str:
    ((*_, cell),) = text_of(signed_in(member).opens("/datasets/mine").text, MINE)
    return cell


def test_an_owner_sees_what_waits_for_whom(
    data_owner: Member, committee: Member, approved: Body
) -> None:
    draft = data_owner.dataset(approved["data_preparation_mlcube"], state="DEVELOPMENT")
    assert waits(data_owner) == "you: prepare it, then set it operational"
    data_owner.put(f"/datasets/{draft['id']}/", {"state": "OPERATION"})
    assert waits(data_owner) == "you: associate it with a benchmark"
    body = {"dataset": draft["id"], "benchmark": approved["id"], "metadata": {}}
    pair = f"/datasets/{draft['id']}/benchmarks/{approved['id']}/"
    created(committee.post("/datasets/benchmarks/", body))
    assert waits(data_owner) == f"you: {approved['name']} asks for it"
    data_owner.put(pair, {"approval_status": "REJECTED"})
    created(data_owner.post("/datasets/benchmarks/", body))
    assert waits(data_owner) == f"the committee of {approved['name']}"
    committee.put(pair, {"approval_status": "APPROVED"})
    assert waits(data_owner) == f"nobody: it takes part in {approved['name']}"
    created(committee.post("/datasets/benchmarks/", {**body, "approval_status": "REJECTED"}))
    assert waits(data_owner) == f"you: {approved['name']} rejected it"


def test_a_dataset_says_what_to_run_next(
    data_owner: Member, draft: Body, dataset: Body, joining: Body, data_pair: str, committee: Member
) -> None:
    visitor = signed_in(data_owner)

    def next_of(one: Body) -> str:
        return visitor.opens(f"/datasets/{one['id']}").text

    assert f"medperf dataset prepare --data_uid {draft['id']}" in next_of(draft)
    assert "medperf dataset associate" in next_of(dataset)
    created(data_owner.post("/datasets/benchmarks/", joining))
    committee.put(data_pair, {"approval_status": "APPROVED"})
    benchmark = joining["benchmark"]
    command = f"medperf benchmark run --benchmark {benchmark} --data_uid {dataset['id']}"
    assert command in next_of(dataset)


def test_the_committee_decides_on_a_dataset_in_its_queue(
    committee: Member, data_owner: Member, stranger: Member, asking: Body, dataset: Body
) -> None:
    path = f"/dataset-associations/{asking['id']}"
    visitor = signed_in(committee)
    home = visitor.opens("/").text
    assert "Requests to decide: datasets" in home and f'href="{path}"' in home
    page = visitor.opens(path).text
    assert dataset["name"] in page and "It waits for your decision" in page
    ((metric, value, _, _),) = text_of(page, "Metrics of the reference model on these data")
    assert (metric, value) == ("auroc", "0.93")
    assert 'name="priority"' not in page
    assert "It waits for the other side" in signed_in(data_owner).opens(path).text
    assert signed_in(stranger).opens(path).status_code == 404
    decided = visitor.fills(path, {"approval_status": "APPROVED", "reason": "Welcome"}, on=path)
    assert "The request is approved." in decided.text and "Welcome" in decided.text
    assert "Requests to decide" not in visitor.opens("/").text


def test_who_asked_for_a_dataset_withdraws_on_its_page(data_owner: Member, asking: Body) -> None:
    path = f"/dataset-associations/{asking['id']}"
    visitor = signed_in(data_owner)
    refused = visitor.fills(path, {"approval_status": "APPROVED"}, on=path)
    assert "you cannot approve an association that you requested" in refused.text
    assert "rejected" in visitor.fills(path, {"approval_status": "REJECTED"}, on=path).text
    assert "medperf dataset associate" in visitor.opens(path).text


def test_both_sides_list_requests_of_datasets(
    data_owner: Member, committee: Member, stranger: Member, asking: Body, dataset: Body
) -> None:
    query = f"?q={dataset['name']}&approval_status=PENDING&benchmark={asking['benchmark']}"
    for member in (data_owner, committee):
        page = signed_in(member).opens(f"/dataset-associations/{query}").text
        (row,) = text_of(page, "Requests to take a dataset into a benchmark")
        assert row[:3] == [f"Request {asking['id']}", "pending", dataset["name"]]
    page = signed_in(stranger).opens(f"/dataset-associations/{query}").text
    assert text_of(page, "Requests to take a dataset into a benchmark") == [["None."]]


def test_results_are_for_the_committee_and_the_data_owner(
    committee: Member,
    data_owner: Member,
    stranger: Member,
    model_owner: Member,
    result: Body,
    dataset: Body,
    approved: Body,
) -> None:
    listed, one = f"/results/?benchmark={approved['id']}", f"/results/{result['id']}"
    for member in (committee, data_owner):
        visitor = signed_in(member)
        (row,) = text_of(visitor.opens(listed).text, "Results on the data of sites")
        assert row[0] == f"Result {result['id']} unsigned" and dataset["name"] in row
        page = visitor.opens(one).text
        ((metric, value, *_),) = text_of(page, "Metrics on these data")
        assert (metric, value) == ("auroc", "0.91")
        assert (
            "1 result on the data of sites" in visitor.opens(f"/benchmarks/{approved['id']}").text
        )
        assert f'href="{one}"' in visitor.opens(f"/datasets/{dataset['id']}").text
    for member in (stranger, model_owner):
        visitor = signed_in(member)
        assert visitor.opens(one).status_code == 404
        for path in (listed, f"/datasets/{dataset['id']}", f"/benchmarks/{approved['id']}"):
            page = visitor.opens(path).text
            assert f'href="{one}"' not in page and "result on the data" not in page


CHECK, DECISIONS = "What the site checked before it sent this", "What was found, and what"


def test_a_result_says_what_its_site_decided_to_whom_it_is_shown(
    data_owner: Member, committee: Member, stranger: Member, result_body: Body
) -> None:
    body = {**result_body, "metadata": {"disclosure": CHECKED}}
    path = f"/results/{created(data_owner.post('/results/', body))['id']}"
    for member in (committee, data_owner):
        page = signed_in(member).opens(path).text
        assert CHECK in page and "version 1 of the rules" in page
        assert "<code>min_count</code> 10, <code>dominance</code> 0.5" in page
        assert text_of(page, DECISIONS) == [
            [
                *("label_counts.rare", "accepted", "threshold", "Public data"),
                "2026-03-01T10:00:00+00:00",
            ],
            [
                *("confusion[0][1]", "allowed by the site's policy"),
                *("threshold", "Errors may be told", ""),
            ],
            ["per_site.range", "sent with a warning", "extremes", "", ""],
            ["age.min", "left out", "", "", ""],
        ]
    assert signed_in(stranger).opens(path).status_code == 404


def test_a_result_without_a_check_says_so(
    data_owner: Member, result: Body, result_body: Body
) -> None:
    visitor = signed_in(data_owner)
    page = visitor.opens(f"/results/{result['id']}").text
    assert "It says nothing of a disclosure check" in page
    body = {**result_body, "metadata": {"disclosure": {"rules": 1, "accepted": []}}}
    path = f"/results/{created(data_owner.post('/results/', body))['id']}"
    assert "Nothing was found that had to be decided on." in visitor.opens(path).text


EVIL = "<script>x()</script>"


@pytest.mark.parametrize(
    "said",
    [
        *("x", 7, [], [EVIL], None, True, {}, {"rules": {}, "thresholds": []}),
        {"accepted": {}, "allowed": "x", "redacted": 7, "unresolved": [[], None, {}, 7]},
        {"rules": EVIL, "thresholds": {"min_count": EVIL, EVIL: 1, "dominance": 10**400}},
        {"accepted": [{"key": EVIL, "rule": [EVIL], "because": EVIL * 99, "at": {"x": EVIL}}]},
        {"redacted": [EVIL, {}, None, 3] * 100},
    ],
)
def test_whatever_is_said_of_a_check_is_only_shown(
    data_owner: Member, result_body: Body, said: object
) -> None:
    body = {**result_body, "metadata": {"disclosure": said}}
    uid = created(data_owner.post("/results/", body))["id"]
    page = signed_in(data_owner).opens(f"/results/{uid}")
    assert page.status_code == 200 and "<script>x" not in page.text
    Elements(page.text).are_harmless()
    assert ("These are the first of them" in page.text) is (page.text.count("left out</td>") == 200)


@pytest.fixture
def reference(admin: Member, approved: Body) -> str:
    """The name of the benchmark's reference model."""
    name: str = admin.get(f"/mlcubes/{approved['reference_model_mlcube']}/").json()["name"]
    return name


def test_the_leaderboard_has_results_of_sites_beside_the_tests(
    committee: Member,
    data_owner: Member,
    stranger: Member,
    model_owner: Member,
    admin: Member,
    requested: Body,
    pair: str,
    result: Body,
    result_body: Body,
    dataset: Body,
    approved: Body,
    model: Body,
) -> None:
    committee.put(pair, {"approval_status": "APPROVED"})
    body = {**result_body, "model": model["id"]}
    for auroc in (0.5, 0.625, 0.75):
        last = created(data_owner.post("/results/", {**body, "results": {"auroc": auroc}}))
    # The newest that is valid counts.
    assert admin.put(f"/results/{last['id']}/", {"is_valid": False}).status_code == 200
    path = f"/benchmarks/{approved['id']}/leaderboard"
    for member in (committee, data_owner, admin):
        page = signed_in(member).opens(path).text
        assert f'<a href="/datasets/{dataset["id"]}">{dataset["name"]}</a>' in page
        tests = {row[1].split()[0]: row for row in text_of(page, "Approved models")}
        assert tests[model["name"]][2] == "0.97"
        rows = text_of(page, "Models by auroc at each site")
        figures = {row[-1].partition(" ")[0] for row in rows}
        assert figures == {"0.625", "0.91"}
    for member in (stranger, model_owner):
        page = signed_in(member).opens(path).text
        assert dataset["name"] not in page and "0.625" not in page and "0.91" not in page


def test_who_owns_the_container_sees_how_its_preparations_go(
    model_owner: Member, data_owner: Member, stranger: Member
) -> None:
    container = model_owner.container(state="DEVELOPMENT")["id"]
    dataset = data_owner.dataset(container, state="DEVELOPMENT")
    report = {"execution_status": "failed", "progress": {"Stage 2": "12%"}}
    data_owner.put(f"/datasets/{dataset['id']}/", {"report": report})
    path = f"/containers/{container}"
    (row,) = text_of(signed_in(model_owner).opens(path).text, "How its preparations go")
    assert row[0] == dataset["name"] and row[3] == "failed: Stage 2 12%"
    for member in (stranger, data_owner):
        assert "How its preparations go" not in signed_in(member).opens(path).text
    model_owner.put(f"/mlcubes/{container}/", {"state": "OPERATION"})
    assert "How its preparations go" not in signed_in(model_owner).opens(path).text


def test_what_members_write_of_data_is_only_shown(
    data_owner: Member, committee: Member, approved: Body
) -> None:
    evil = "<script>x()</script>"
    body = {"description": evil, "user_metadata": {evil: evil}, "generated_metadata": {evil: evil}}
    made = data_owner.dataset(approved["data_preparation_mlcube"], state="DEVELOPMENT", **body)
    report = {"execution_status": evil, "progress": {evil: evil}}
    final = {"report": report, "state": "OPERATION"}
    assert data_owner.put(f"/datasets/{made['id']}/", final).status_code == 200
    sides = {"dataset": made["id"], "benchmark": approved["id"]}
    test = {"test_result": {evil: 0.5, "note": evil}}
    asked = created(data_owner.post("/datasets/benchmarks/", {**sides, "metadata": test}))
    pair = f"/datasets/{made['id']}/benchmarks/{approved['id']}/"
    committee.put(pair, {"approval_status": "APPROVED", "reason": evil})
    model = {"model": approved["reference_model_mlcube"], "results": {evil: 0.5, "note": evil}}
    result = created(data_owner.post("/results/", {**sides, **model, "metadata": {evil: evil}}))
    visitor = signed_in(data_owner)
    for path in (
        *("/", "/datasets/mine", f"/datasets/{made['id']}", f"/results/{result['id']}"),
        *(f"/dataset-associations/{asked['id']}", f"/benchmarks/{approved['id']}/leaderboard"),
    ):
        page = visitor.opens(path)
        assert page.status_code == 200 and "<script>x" not in page.text, path
        Elements(page.text).are_harmless()
