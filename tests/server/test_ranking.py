"""The leaderboard on released results: who is ahead at which sites, and how sure that is."""

import json
import math
import os
import re
from pathlib import Path

import pytest

from medperf_server.analysis.pooling import Estimate, pooled
from medperf_server.base import db
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.result.ranking import Model, Row, letters
from medperf_server.kinds.result.table import Result
from medperf_server.web.forest import forest
from tests.server.visitor import signed_in, table_of
from tests.support.api import Body, Member, created, key_body
from tests.support.forks import ordinary
from tests.support.rankings import DESCRIBED, FIGURES, Trial, achieved, trial
from tests.support.registry import Registry

BY_SITE, PLOT, SURE = "Models by auroc at each site", "auroc of ", "Places in resamples"


@pytest.fixture
def sites(served: Registry) -> Trial:
    """Three models at four sites, by metrics that the benchmark describes."""
    return trial(served, metrics=DESCRIBED)


def rows(page: str, caption: str) -> list[list[str]]:
    """A table's cells, each on one line."""
    return [[" ".join(cell.split()) for cell in row] for row in table_of(page, caption)]


def names(sites: Trial) -> list[str]:
    """The names of the models."""
    found = (sites.committee.get(f"/mlcubes/{uid}/").json()["name"] for uid in sites.models)
    return list(found)


def test_the_committee_sees_every_model_at_every_site(sites: Trial) -> None:
    page = signed_in(sites.committee).opens(sites.page).text
    reference, second, third = names(sites)
    found = rows(page, BY_SITE)
    assert [row[:3] for row in found] == [
        ["1", third, "1.5"],
        ["2", second, "1.75"],
        ["3", f"{reference} reference", "2.75"],
    ]
    order = sorted(range(4), key=lambda site: sites.names[site])
    by_site = {0: [3, 3, 3, 2], 1: [1, 2, 1, 3], 2: [2, 1, 2, 1]}
    assert [row[4:] for row in found] == [
        [f"{FIGURES[model][site]:.4g} ({by_site[model][site]})" for site in order]
        for model in (2, 1, 0)
    ]
    for site in range(4):
        assert f'<a href="/results/{sites.results[2, site]}">' in page
    assert "higher is better" in page and "Better is" not in page


def test_the_plot_has_a_table_with_the_same_figures(sites: Trial) -> None:
    visitor = signed_in(sites.committee)
    page = visitor.opens(f"{sites.page}?model={sites.models[1]}").text
    together = pooled([Estimate(v, v - 0.03, v + 0.03) for v in FIGURES[1]])
    found = {row[0]: row[1:] for row in rows(page, f"{PLOT}{names(sites)[1]}")}
    for name, value in zip(sites.names, FIGURES[1], strict=True):
        assert found[name] == [f"{value:.4g} [{value - 0.03:.4g}, {value + 0.03:.4g}]", ""]
    assert found["All sites"] == [
        f"{together.value:.4g} [{together.low:.4g}, {together.high:.4g}]",
        "random effects of 4 sites",
    ]
    (plot,) = re.findall(
        rf'<svg class="forest".*?aria-label="auroc of {names(sites)[1]} .*?\n</svg>', page, re.S
    )
    assert plot.count('class="whisker"') == plot.count('class="dot"') == 4
    assert plot.count('class="diamond"') == 1 and "Heterogeneity is " in page


def test_a_model_that_some_sites_lack_is_shown_and_not_ranked(sites: Trial) -> None:
    body = {"model_mlcube": sites.model_owner.container()["id"], "benchmark": sites.benchmark}
    sites.model_owner.post("/mlcubes/benchmarks/", body)
    path = f"/mlcubes/{body['model_mlcube']}/benchmarks/{sites.benchmark}/"
    sites.committee.put(path, {"approval_status": "APPROVED"})
    sites.models.append(body["model_mlcube"])
    sites.release(3, 0, achieved(0.99))
    page = signed_in(sites.committee).opens(sites.page).text
    late = names(sites)[3]
    found = rows(page, BY_SITE)
    assert found[3][:4] == ["–", late, "–", "0.99"] and found[0][0] == "1"
    assert f"So not ranked: {late}." in page


def test_partial_and_withdrawn_results_are_marked_and_can_be_left_out(sites: Trial) -> None:
    visitor = signed_in(sites.committee)
    sites.release(2, 0, achieved(0.5), metadata={"partial": True})
    withdrawn = sites.release(2, 1, achieved(0.4))
    assert sites.admin.put(f"/results/{withdrawn}/", {"is_valid": False}).ok
    column = 4 + sorted(sites.names).index(sites.names[0])
    other = 4 + sorted(sites.names).index(sites.names[1])
    third = names(sites)[2]

    def shown(query: str) -> tuple[str, str, str]:
        page = visitor.opens(f"{sites.page}?{query}").text
        (row,) = [row for row in rows(page, BY_SITE) if row[1] == third]
        return re.sub(r" \(.*?\)", "", row[column]), re.sub(r" \(.*?\)", "", row[other]), page

    first, second, page = shown("")
    assert (first, second) == ("0.5 partial", "0.87")
    assert "1 withdrawn result is left out." in page
    first, second, page = shown("partial=false&withdrawn=true")
    assert (first, second) == ("0.86", "0.4 withdrawn")
    assert "1 partial result is left out." in page and page.count(" checked>") == 2
    # What else a result says of being partial counts, and is no error.
    for said in ({"why": "x"}, "no cases", 1, 0, None, False):
        sites.release(2, 0, achieved(0.6), metadata={"partial": said})
        expected = "0.6" if said in (0, None, False) else "0.6 partial"
        assert shown("")[0] == expected, said


def test_unsigned_results_are_marked_and_can_be_left_out(sites: Trial) -> None:
    visitor = signed_in(sites.committee)
    page = visitor.opens(sites.page).text
    assert "None of these results is signed." in page and "unsigned</span>" not in page
    # As if they had come with a statement, of which `tests/client/test_evidence.py` has all.
    of_all = [sites.results[model, site] for model in (0, 1, 2) for site in range(4)]
    with sites.registry.app.app_context():
        for uid in of_all[1:]:
            db.session.get_one(Result, uid).signed_by = "a" * 64
        db.session.commit()
    page = visitor.opens(sites.page).text
    assert "None of these" not in page
    (reference,) = [row for row in rows(page, BY_SITE) if row[1].endswith(" reference")]
    assert [cell.endswith(" unsigned") for cell in reference[4:]].count(True) == 1
    answer = asked(sites.committee, sites, "unsigned=false")
    assert answer["left_out"] == {"withdrawn": 0, "unsigned": 1}
    assert figures_of(answer)[sites.models[0]].count(None) == 1
    page = visitor.opens(f"{sites.page}?unsigned=false").text
    assert "1 unsigned result is left out." in page and "unsigned</span>" not in page


def with_revoked_keys(sites: Trial) -> None:
    """Have all results signed, and the key of the second site revoked since."""
    keys = [created(owner.post("/keys/", key_body())) for owner in sites.data_owners]
    with sites.registry.app.app_context():
        # As if they had come with a statement, of which `tests/client/test_evidence.py` has all.
        for (_, site), uid in sites.results.items():
            db.session.get_one(Result, uid).signed_by = keys[site]["keyid"]
        db.session.commit()
    path = f"/keys/{keys[1]['id']}/"
    assert sites.data_owners[1].put(path, {"is_revoked": True}).status_code == 200


def test_results_whose_key_was_revoked_since_are_marked_and_can_be_left_out(sites: Trial) -> None:
    visitor = signed_in(sites.committee)
    before = asked(sites.committee, sites)
    with_revoked_keys(sites)
    answer = asked(sites.committee, sites)
    marked = {
        site["dataset"]: {
            mark for model in answer["models"] for mark in model["results"][at]["marks"]
        }
        for at, site in enumerate(answer["sites"])
    }
    others = {uid: set() for uid in sites.datasets}
    assert marked == {**others, sites.datasets[1]: {"key revoked"}}
    assert figures_of(answer) == figures_of(before)
    page = visitor.opens(sites.page).text
    assert page.count(">key revoked</span>") == 3 + 1 and "None of these" not in page
    answer = asked(sites.committee, sites, "revoked=false")
    assert answer["left_out"] == {"withdrawn": 0, "key revoked": 3}
    assert sites.datasets[1] not in [one["dataset"] for one in answer["sites"]]
    page = visitor.opens(f"{sites.page}?revoked=false").text
    assert "3 results whose key was revoked since are left out." in page
    assert ">key revoked</span>" not in page and page.count(" checked>") == 1
    assert sites.committee.get(f"{sites.path}ranking/?revoked=some").status_code == 400


def test_of_a_site_without_a_name_nobody_learns_that_its_key_was_revoked(sites: Trial) -> None:
    with_revoked_keys(sites)
    sites.show(ranking_audience="members", ranking_published=True, ranking_sites="letters")
    usual = asked(sites.stranger, sites)
    assert "revoked" not in json.dumps(usual)
    assert asked(sites.stranger, sites, "revoked=false") == usual
    page = signed_in(sites.stranger).opens(sites.page).text
    assert "of revoked keys" not in page and "key revoked" not in page
    # Whose it is knows.
    own = asked(sites.data_owners[1], sites)["models"][0]["results"][0]
    assert own["marks"] == ["key revoked"]
    sites.show(ranking_sites="names")
    assert "key revoked" in json.dumps(asked(sites.stranger, sites))


def test_what_is_no_figure_is_missing_and_says_so(sites: Trial) -> None:
    sites.release(1, 0, {"auroc": "nan", "auroc_ci": [0, 1]})
    sites.release(1, 1, {"auroc": 1.5, "auroc_ci": [1, 2]})
    sites.release(1, 2, {"auroc": 0.9})
    sites.release(1, 3, {"auroc": 0.9, "auroc_ci": [0.91, 0.95]})
    sites.release(0, 0, {"auroc": 0.9, "auroc_ci": [0.5, 0.95]})
    visitor = signed_in(sites.committee)
    page = visitor.opens(f"{sites.page}?model={sites.models[1]}").text
    found = {row[0]: row[1:] for row in rows(page, f"{PLOT}{names(sites)[1]}")}
    told = [["–", "no figure"], ["–", "out of range"], ["0.9", "no interval"]]
    told += [["0.9", "interval not usable"]]
    assert [found[name] for name in sites.names] == told
    assert found["All sites"] == ["0.9 [0.9, 0.9]", "unweighted mean of 2 sites"]
    assert "interval not symmetric" in visitor.opens(f"{sites.page}?model={sites.models[0]}").text


def test_a_benchmark_that_says_nothing_of_its_metrics_is_asked_about(served: Registry) -> None:
    sites = trial(served)
    visitor = signed_in(sites.committee)
    reference, second, third = names(sites)
    page = visitor.opens(f"{sites.page}?metric=loss&better=lower").text
    assert "Better is" in page
    found = rows(page, "Models by loss at each site")
    assert [row[1] for row in found] == [third, second, f"{reference} reference"]
    turned = rows(visitor.opens(f"{sites.page}?metric=loss").text, "Models by loss at each site")
    assert [row[1] for row in turned] == [f"{reference} reference", second, third]
    page = visitor.opens(f"{sites.page}?metric=auroc_ci/0").text
    assert "unweighted mean of 4 sites" in page


def test_the_primary_metric_comes_first_and_says_which_way_is_better(served: Registry) -> None:
    described = [{"name": "loss", "better": "lower"}, {"name": "auroc_ci/0", "better": "higher"}]
    sites = trial(
        served, metrics=[*described, {"name": "auroc", "better": "lower", "primary": True}]
    )
    page = signed_in(sites.committee).opens(f"{sites.page}?better=higher").text
    assert rows(page, BY_SITE)[0][1] == f"{names(sites)[0]} reference"
    assert "lower is better" in page


def test_how_sure_the_order_is_stands_beside_it(sites: Trial) -> None:
    page = signed_in(sites.committee).opens(sites.page).text
    found = rows(page, SURE)
    assert [row[0] for row in found] == ["1", "2", "3"]
    assert found[0][4].endswith("cannot be told apart") and found[2][4] == ""
    shares = rows(page, "Share of resamples by place")
    assert len(shares) == 3 and all(len(row) == 4 for row in shares)
    # It is the same each time.
    assert rows(signed_in(sites.admin).opens(sites.page).text, SURE) == found


def test_one_site_tells_no_order(served: Registry) -> None:
    sites = trial(served, [[0.8], [0.9]], metrics=DESCRIBED)
    page = signed_in(sites.committee).opens(sites.page).text
    assert "That takes at least two models at two sites." in page
    assert rows(page, f"{PLOT}{names(sites)[1]}")[-1] == [
        "All sites",
        "0.9 [0.87, 0.93]",
        "one site of 1 site",
    ]


def test_where_numpy_is_missing_the_page_says_so_and_has_all_else(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('No module named numpy', name='numpy')"
    (tmp_path / "numpy.py").write_text(missing)
    path = os.pathsep.join([str(tmp_path), ordinary()["PYTHONPATH"]])
    for registry in Registry.serving(tmp_path / "registry", PYTHONPATH=path):
        sites = trial(registry, metrics=DESCRIBED)
        page = signed_in(sites.committee).opens(sites.page).text
        assert "pip install 'medperf-offline[analysis]'" in page
        assert [row[2] for row in rows(page, BY_SITE)] == ["1.5", "1.75", "2.75"]
        assert SURE not in page and "Heterogeneity is" in page


@pytest.mark.parametrize(
    ("number", "name"), [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (701, "ZZ")]
)
def test_letters_go_on_after_z(number: int, name: str) -> None:
    assert letters(number) == name


ODD = [
    [Estimate(0.5)],
    [Estimate(0.5, 0.5, 0.5), Estimate(0.5)],
    [Estimate(-1e50, -1e50, 1e50), Estimate(1e50)],
    [Estimate(1e50), Estimate(1e50 * (1 + 1e-15))],
    [Estimate(1e-50), Estimate(2e-50)],
    [Estimate(1e6 + 1e-9), Estimate(1e6)],
]


@pytest.mark.parametrize("estimates", ODD)
def test_a_plot_of_anything_is_within_its_width(estimates: list[Estimate]) -> None:
    plot = forest([(f"site {at}", one) for at, one in enumerate(estimates)], ("all", estimates[0]))
    assert plot is not None and plot.pooled is not None and len(plot.ticks) < 12
    places = [place for place, _ in plot.ticks]
    for line in (*plot.lines, plot.pooled):
        places += [end for end in (line.low, line.value, line.high) if end is not None]
    assert all(0 <= place <= 100 for place in places)


def test_a_plot_of_nothing_is_none() -> None:
    assert forest([], None) is None


def figures_of(answer: Body) -> dict[int, list[float | None]]:
    """The figures of each model at the sites of a ranking of the API's."""
    return {
        one["model"]: [cell and cell["value"] for cell in one["results"]]
        for one in answer["models"]
    }


def asked(member: Member, sites: Trial, query: str = "") -> Body:
    """The ranking that a member is answered, who is told something."""
    answer = member.get(f"{sites.path}ranking/?{query}")
    assert answer.status_code == 200, answer.text
    body: Body = answer.json()
    return body


def test_scripts_are_told_what_the_page_shows(sites: Trial) -> None:
    answer = asked(sites.committee, sites)
    order = sorted(range(4), key=lambda site: sites.names[site])
    assert answer["metric"] == {"name": "auroc", "better": "higher", "is_described": True}
    assert answer["metrics"][:2] == ["auroc", "by class/loss"] and answer["is_whole"] is True
    assert answer["sites"] == [
        {
            "dataset": sites.datasets[site],
            "name": sites.names[site],
            "is_own": False,
            "is_compared": True,
        }
        for site in order
    ]
    models = {one["model"]: one for one in answer["models"]}
    assert list(models) == [sites.models[model] for model in (2, 1, 0)]
    third = models[sites.models[2]]
    together = pooled([Estimate(v, v - 0.03, v + 0.03) for v in FIGURES[2]])
    for key in ("value", "low", "high", "tau2", "q", "i2"):
        assert math.isclose(third["pooled"][key], getattr(together, key), rel_tol=1e-9)
    assert (third["place"], third["mean_rank"]) == (1, 1.5)
    assert [cell["rank"] for cell in third["results"]] == [[2, 1, 2, 1][site] for site in order]
    assert third["results"][0]["result"] == sites.results[2, order[0]]
    assert math.isclose(sum(third["shares"]), 1) and 0.5 < third["ahead"] < 0.95
    assert answer["unsure"] == "" and answer["left_out"] == {"withdrawn": 0}


def test_a_metric_that_there_is_not_is_refused_by_name(sites: Trial) -> None:
    answer = sites.committee.get(f"{sites.path}ranking/?metric=dice")
    assert answer.status_code == 400
    assert "There is no metric 'dice'; there are: auroc, by class/loss" in answer.text
    assert asked(sites.committee, sites, "metric=loss&better=lower")["models"][0]["place"] == 1
    for query in ("better=up", "partial=some", "withdrawn=2"):
        assert sites.committee.get(f"{sites.path}ranking/?{query}").status_code == 400, query


def test_a_direction_that_contradicts_the_benchmark_is_refused(sites: Trial) -> None:
    asked = sites.committee.get(f"{sites.path}ranking/?metric=auroc&better=lower")
    assert asked.status_code == 400
    assert asked.json() == {"better": ["Of 'auroc' the benchmark says that higher is better"]}
    assert sites.committee.get(f"{sites.path}ranking/?metric=auroc&better=higher").ok


def test_the_page_says_of_a_metric_that_there_is_not_what_it_shows_instead(sites: Trial) -> None:
    visitor = signed_in(sites.committee)
    page = visitor.opens(f"{sites.page}?metric=n%3Cpe").text
    assert "There is no metric n&lt;pe here: shown is auroc." in page
    for query in ("", "?metric=auroc", "?metric=loss"):
        assert "There is no metric" not in visitor.opens(f"{sites.page}{query}").text


@pytest.mark.parametrize("audience", ["owners", "participants", "members"])
@pytest.mark.parametrize("is_published", [False, True])
def test_the_committee_decides_who_sees_it_and_from_when(
    sites: Trial, audience: str, is_published: bool
) -> None:
    sites.show(ranking_audience=audience, ranking_published=is_published, ranking_sites="names")
    told = {"owners": 0, "participants": 2, "members": 3}[audience] if is_published else 0
    members = (sites.data_owners[0], sites.model_owner, sites.stranger)
    for at, member in enumerate(members):
        page = signed_in(member).opens(sites.page).text
        answer = member.get(f"{sites.path}ranking/")
        if at < told:
            assert figures_of(answer.json()).keys() == set(sites.models)
            assert all(f">{name}" in page for name in sites.names) and SURE in page
        elif member is sites.data_owners[0]:
            assert answer.json()["is_whole"] is False
            assert [one["dataset"] for one in answer.json()["sites"]] == sites.datasets[:1]
            assert not any(f">{name}" in page for name in sites.names[1:]) and SURE not in page
        else:
            is_out = is_published and audience != "owners"
            why = "shows this ranking to owners of its models and datasets alone"
            why = why if is_out else "has not published this ranking"
            assert answer.status_code == 403
            assert answer.json() == {"detail": f"The committee {why}."}
            assert "is not shown to you" in page and "0.87" not in page
        # Which results they are of stays the committee's, and each data owner's own.
        assert f'"/results/{sites.results[1, 1]}"' not in page
    assert asked(sites.committee, sites)["is_whole"] and asked(sites.admin, sites)["is_whole"]


def test_a_data_owner_sees_their_own_beside_the_pooled_value(sites: Trial) -> None:
    answer = asked(sites.data_owners[1], sites)
    assert figures_of(answer) == {sites.models[model]: [FIGURES[model][1]] for model in range(3)}
    (site,) = answer["sites"]
    assert site == {
        "dataset": sites.datasets[1],
        "name": sites.names[1],
        "is_own": True,
        "is_compared": False,
    }
    for one in answer["models"]:
        row = FIGURES[sites.models.index(one["model"])]
        expected = pooled([Estimate(v, v - 0.03, v + 0.03) for v in row]).value
        assert math.isclose(one["pooled"]["value"], expected, rel_tol=1e-9)
        # Nothing from which what another site found could be computed.
        for key in ("low", "high", "tau2", "q", "i2"):
            assert one["pooled"][key] is None
        assert one["place"] is one["mean_rank"] is one["shares"] is one["ahead"] is None
        assert one["results"][0]["rank"] is None
    page = signed_in(sites.data_owners[1]).opens(sites.page).text
    assert sites.names[1] in page and sites.names[0] not in page and SURE not in page


def test_of_few_others_no_pooled_value_is_told(served: Registry) -> None:
    sites = trial(served, [row[:3] for row in FIGURES], metrics=DESCRIBED)
    for one in asked(sites.data_owners[0], sites)["models"]:
        assert one["pooled"] is None and one["results"][0]["value"] is not None
    assert asked(sites.committee, sites)["models"][0]["pooled"]["sites"] == 3


def test_who_sees_their_own_alone_does_not_choose_what_others_count(sites: Trial) -> None:
    owner = sites.data_owners[0]
    sites.release(1, 2, achieved(0.5), metadata={"partial": True})
    withdrawn = sites.release(1, 3, achieved(0.1))
    assert sites.admin.put(f"/results/{withdrawn}/", {"is_valid": False}).ok
    usual = asked(owner, sites)
    assert asked(owner, sites, "partial=false&withdrawn=true&unsigned=false") == usual
    assert usual["left_out"] == {} and "Leave out" not in signed_in(owner).opens(sites.page).text


def test_sites_without_names_are_letters_that_tell_nothing(sites: Trial) -> None:
    sites.show(ranking_audience="members", ranking_published=True, ranking_sites="letters")
    answer = asked(sites.stranger, sites)
    assert [one["name"] for one in answer["sites"]] == [f"site {letter}" for letter in "ABCD"]
    assert {one["dataset"] for one in answer["sites"]} == {None}
    assert all(cell["result"] is None for one in answer["models"] for cell in one["results"])
    told = json.dumps(answer)
    assert not any(name in told for name in sites.names)
    page = signed_in(sites.stranger).opens(sites.page).text
    assert not any(
        name in page or f"/datasets/{uid}" in page
        for name, uid in zip(sites.names, sites.datasets, strict=True)
    )
    # Who is told them by letters sees their own by name, and the committee all.
    own = asked(sites.data_owners[2], sites)
    assert [one["name"] for one in own["sites"]] == [sites.names[2], *(f"site {x}" for x in "ABC")]
    assert [one["is_own"] for one in own["sites"]] == [True, False, False, False]
    assert sorted(one["name"] for one in asked(sites.committee, sites)["sites"]) == sorted(
        sites.names
    )
    # Figures stay with their sites, whatever these are called.
    columns = lambda one: sorted(zip(*figures_of(one).values(), strict=True))  # noqa: E731
    assert columns(answer) == columns(own) == columns(asked(sites.committee, sites))


def test_letters_are_in_no_order_that_others_know(sites: Trial) -> None:
    """Neither by UID nor by name: of several benchmarks at least one is in another order."""
    from medperf_server.kinds.result.ranking import _sites
    from medperf_server.kinds.result.rules import Sight

    sight = Sight(is_whole=True, by_name=False, is_committee=False, own=frozenset())
    orders = set()
    with sites.registry.app.test_request_context():
        for uid in range(1, 30):
            benchmark = Benchmark(id=uid)
            orders.add(tuple(one for one, _ in _sites(benchmark, sight, sites.datasets)))
    assert len(orders) > 10


def test_a_page_says_who_sees_it_and_its_owner_changes_that(sites: Trial) -> None:
    visitor = signed_in(sites.committee)
    assert "Not published: its owner" in visitor.opens(sites.page).text
    home, path = f"/benchmarks/{sites.benchmark}", f"/benchmarks/{sites.benchmark}/ranking"
    form = {"ranking_audience": "members", "ranking_sites": "names", "ranking_published": "yes"}
    assert "The ranking is published." in visitor.fills(path, form, on=home).text
    told = sites.committee.get(sites.path).json()
    assert {name: told[name] for name in form} == {**form, "ranking_published": True}
    assert "Published for every member" in visitor.opens(sites.page).text
    del form["ranking_published"]
    assert "The ranking is not published." in visitor.fills(path, form, on=home).text
    assert sites.committee.get(sites.path).json()["ranking_published"] is False
    refused = visitor.fills(path, {"ranking_audience": "all"}, on=home).text
    assert "Must be one of: owners, participants, members." in refused
    for member in (sites.model_owner, sites.data_owners[0], sites.stranger):
        other = signed_in(member)
        assert "Who sees the ranking" not in other.opens(home).text
        assert other.fills(path, form, on="/").status_code == 403
        assert member.put(sites.path, {"ranking_published": True}).status_code == 403


def test_what_nobody_decided_is_hidden(served: Registry, committee: Member) -> None:
    made = committee.benchmark()
    told = {name: made[name] for name in made if name.startswith("ranking_")}
    assert told == {
        "ranking_audience": "owners",
        "ranking_published": False,
        "ranking_sites": "letters",
    }
    for field, value in (("audience", "everyone"), ("sites", "codes"), ("published", "yes")):
        answer = committee.put(f"/benchmarks/{made['id']}/", {f"ranking_{field}": value})
        assert answer.status_code == 400 and f"ranking_{field}" in answer.json()


def test_of_a_private_benchmark_it_is_hidden_too(sites: Trial) -> None:
    sites.show(ranking_audience="members", ranking_published=True, is_private=True)
    for member in (sites.stranger, sites.model_owner, sites.data_owners[0]):
        assert member.get(f"{sites.path}ranking/").status_code == 404
        assert signed_in(member).opens(sites.page).status_code == 404
    assert sites.committee.post(f"{sites.path}members/", {"email": sites.stranger.email}).ok
    assert asked(sites.stranger, sites)["is_whole"] is True


def test_who_takes_part_no_more_is_no_participant(sites: Trial) -> None:
    sites.show(ranking_audience="participants", ranking_published=True)
    owner = sites.model_owner
    assert asked(owner, sites)["is_whole"] is True
    for model in sites.models[1:]:
        body = {"model_mlcube": model, "benchmark": sites.benchmark, "approval_status": "REJECTED"}
        assert sites.committee.post("/mlcubes/benchmarks/", body).status_code == 201
    assert owner.get(f"{sites.path}ranking/").status_code == 403


def test_of_metrics_that_nobody_names_a_data_owner_learns_their_own(served: Registry) -> None:
    sites = trial(served, test_result={})
    sites.release(1, 0, {**achieved(0.9), "only here": 1})
    for owner, is_told in ((sites.data_owners[0], True), (sites.data_owners[3], False)):
        answer = asked(owner, sites)
        assert answer["metric"]["name"] == "auroc"
        assert ("only here" in answer["metrics"]) is is_told
        # Read before it was known by which metric.
        assert {one["pooled"]["sites"] for one in answer["models"]} == {4}
    refused = sites.data_owners[3].get(f"{sites.path}ranking/?metric=only here")
    assert refused.status_code == 400 and "there are: auroc" in refused.text
    assert "only here" in asked(sites.committee, sites)["metrics"]


@pytest.mark.parametrize(
    ("shares", "likely"),
    [
        ([1.0], (1, 1)),
        ([0.9, 0.1], (1, 2)),
        ([0.01, 0.98, 0.01], (2, 2)),
        ([0.025, 0.95, 0.025], (2, 2)),
        ([0.0, 0.5, 0.5], (2, 3)),
        ([0.1] * 10, (1, 10)),
    ],
)
def test_the_places_that_a_model_has_are_those_in_the_middle(
    shares: list[float], likely: tuple[int, int]
) -> None:
    assert Row(Model(1, "model", 1, False), [], None, None, shares).likely == likely
