"""People and scripts are shown how a benchmark's models rank, with the registry there and away."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from medperf_client.cli.ranking import _tell
from medperf_client.errors import Offline
from medperf_client.kinds.ranking import (
    MOST_ANSWERS,
    not_told_apart,
    ranking_checked,
    with_answer,
)
from tests.support import api
from tests.support.consortium import Member
from tests.support.rankings import DESCRIBED, FIGURES, Trial, achieved, trial
from tests.support.registry import Registry

RANKING = ("benchmark", "ranking")


@pytest.fixture
def sites(registry: Registry) -> Trial:
    """Three models at four sites, by metrics that the benchmark describes."""
    return trial(registry, metrics=DESCRIBED)


def at_a_shell(sites: Trial, member: api.Member, tmp_path: Path) -> Member:
    """Somebody who takes part, at a machine of their own."""
    token = sites.registry.token_for(member.email)
    return Member(tmp_path / member.email, sites.registry.url, token)


@pytest.fixture
def committee(sites: Trial, tmp_path: Path) -> Member:
    return at_a_shell(sites, sites.committee, tmp_path)


def answered(sites: Trial, query: str = "", member: api.Member | None = None) -> dict[str, Any]:
    """What the API answers."""
    asked = (member or sites.committee).get(f"{sites.path}ranking/?{query}")
    assert asked.status_code == 200, asked.text
    return dict(asked.json())


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_committee_is_shown_who_is_ahead_and_who_cannot_be_told_apart(
    sites: Trial, committee: Member
) -> None:
    told = answered(sites)
    done = committee.run(*RANKING, str(sites.benchmark))
    heading, *rows = map(cells, done.stdout.splitlines())
    assert heading == [
        *("RANK", "MODEL", "NAME", "MEAN RANK", "auroc", "SITES"),
        *("NOT TOLD APART FROM", "NOTE"),
    ]
    names = [one["name"] for one in told["models"]]
    assert [row[:4] for row in rows] == [
        ["1", str(sites.models[2]), names[0], "1.5"],
        ["2", str(sites.models[1]), names[1], "1.75"],
        ["3", str(sites.models[0]), names[2], "2.75"],
    ]
    for row, model in zip(rows, told["models"], strict=True):
        pooled = model["pooled"]
        assert row[4] == "{value:.4g} [{low:.4g}, {high:.4g}]".format(**pooled) and row[5] == "4"
        assert row[-1] == "4 unsigned"
    assert told["models"][0]["ahead"] < 0.95
    assert rows[0][6] == names[1] and names[0] in rows[1][6]
    assert done.stderr == "By auroc, at 4 sites: higher is better.\n"


def test_scripts_are_told_what_the_registry_answers(sites: Trial, committee: Member) -> None:
    told = committee.json(*RANKING, str(sites.benchmark))
    assert told.pop("benchmark") == sites.benchmark and told.pop("as_of")
    assert told == answered(sites)
    words = ("--metric", "loss", "--better", "lower")
    by_loss = committee.json(*RANKING, str(sites.benchmark), *words)
    assert by_loss["metric"] == {"name": "loss", "better": "lower", "is_described": False}
    assert by_loss["models"] == answered(sites, "metric=loss&better=lower")["models"]
    done = committee.run(*RANKING, str(sites.benchmark), "--metric", "dice")
    assert done.returncode == 1 and "there are: auroc, by class/loss" in done.stderr
    words = ("--metric", "auroc", "--better", "lower")
    done = committee.run(*RANKING, str(sites.benchmark), *words)
    assert done.returncode == 1 and "the benchmark says that higher is better" in done.stderr


def test_what_is_not_to_count_is_left_out(sites: Trial, committee: Member) -> None:
    sites.release(2, 0, achieved(0.5), metadata={"partial": True})
    withdrawn = sites.release(2, 1, achieved(0.4))
    assert sites.admin.put(f"/results/{withdrawn}/", {"is_valid": False}).ok
    uid = str(sites.benchmark)
    assert committee.does(*RANKING, uid).count("1 partial") == 1
    done = committee.run(*RANKING, uid, "--leave-out", "partial", "--leave-out", "revoked")
    assert "partial" not in done.stdout
    assert "Left out: 1 partial, 1 withdrawn." in done.stderr
    counted = committee.json(*RANKING, uid, "--withdrawn")
    assert counted == {
        **answered(sites, "withdrawn=true"),
        **{name: counted[name] for name in ("benchmark", "as_of")},
    }
    done = committee.run(*RANKING, uid, "--leave-out", "unsigned")
    assert done.returncode == 0 and "There are no results that count" in done.stderr
    assert committee.run(*RANKING, uid, "--leave-out", "withdrawn").returncode == 2


def test_what_was_asked_before_is_shown_with_the_registry_away(
    sites: Trial, committee: Member
) -> None:
    uid = str(sites.benchmark)
    told = committee.json(*RANKING, uid, "--metric", "auroc")
    sites.registry.stop()
    assert committee.json(*RANKING, uid, "--metric", "auroc") == told
    assert committee.json(*RANKING, uid, "--metric", "auroc", "--offline") == told
    done = committee.run(*RANKING, uid, "--metric", "auroc")
    assert f"the ranking is that of {told['as_of']}" in done.stderr
    done = committee.run(*RANKING, uid)
    assert done.returncode == 1 and "not asked for yet" in done.stderr
    assert f"medperf benchmark results {uid}" in done.stderr
    sites.registry.start()
    assert committee.json(*RANKING, uid)["models"] == told["models"]


def test_a_data_owner_sees_their_own_beside_what_all_found(sites: Trial, tmp_path: Path) -> None:
    owner = at_a_shell(sites, sites.data_owners[1], tmp_path)
    done = owner.run(*RANKING, str(sites.benchmark))
    heading, *rows = map(cells, done.stdout.splitlines())
    assert sites.names[1] in heading and sites.names[0] not in heading
    assert {row[0] for row in rows} == {"-"}
    at = heading.index(sites.names[1])
    found = {int(row[1]): float(row[at]) for row in rows}
    assert found == {uid: FIGURES[at][1] for at, uid in enumerate(sites.models)}
    assert "You are told of your own results" in done.stderr


def test_who_is_told_nothing_is_refused(sites: Trial, tmp_path: Path) -> None:
    stranger = at_a_shell(sites, sites.stranger, tmp_path)
    done = stranger.run(*RANKING, str(sites.benchmark))
    assert done.returncode == 1 and done.stdout == ""
    assert "The committee has not published this ranking" in done.stderr
    done = stranger.run(*RANKING, "999")
    assert done.returncode == 2 and "there is no benchmark with UID 999" in done.stderr


def test_of_the_answers_the_newest_are_kept() -> None:
    known = None
    for number in range(MOST_ANSWERS + 5):
        known = with_answer(known, 1, f"metric={number}", {"n": number})
    known = with_answer(known, 1, "metric=10", {"n": "again"})
    assert known["id"] == 1 and len(known["answers"]) == MOST_ANSWERS
    assert [*known["answers"]][-2:] == [f"metric={MOST_ANSWERS + 4}", "metric=10"]
    assert known["answers"]["metric=10"] == {"n": "again"}


@pytest.mark.parametrize(
    ("ahead", "alike"),
    [
        ([0.5, 0.99, None], [["b"], ["a"], []]),
        ([0.95, 0.94999, None], [[], ["c"], ["b"]]),
        ([0.5, 0.5, 0.1], [["b"], ["a", "c"], ["b"]]),
        ([None, "x", True], [[], [], []]),
    ],
)
def test_neighbours_that_cannot_be_told_apart(ahead: list[Any], alike: list[list[str]]) -> None:
    models = [{"name": name, "ahead": one} for name, one in zip("abc", ahead, strict=True)]
    assert not_told_apart(models) == alike


ANSWER: dict[str, Any] = {
    "metric": {"name": "auroc", "better": "higher"},
    "metrics": [],
    "is_whole": True,
    "sites": [{"name": "a", "is_own": True}],
    "models": [{"model": 1, "name": "m", "results": [None]}],
    "unsure": "",
    "left_out": {},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((["metric"], one) for one in (None, [], {"name": 1, "better": "higher"}, {"name": "a"})),
        *((["sites"], one) for one in (None, {}, [None], [{"name": "a"}], [{"is_own": True}])),
        *((["models"], one) for one in ("x", [[]], [{"model": "1"}], [{"model": 1, "name": "m"}])),
        *((["models", 0, "model"], one) for one in (0, 2**64, True)),
        *(([name], None) for name in ("is_whole", "unsure", "left_out", "metrics")),
    ],
)
def test_what_is_no_ranking_is_no_answer_of_a_registry(path: list[Any], value: Any) -> None:
    answer = copy.deepcopy(ANSWER)
    assert ranking_checked(answer) == answer
    place: Any = answer
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(Offline, match="no registry"):
        ranking_checked(answer)


@pytest.mark.parametrize(
    "odd",
    [
        {"results": ["x"], "pooled": "x", "place": {}, "mean_rank": [], "ahead": "x"},
        {"results": [{"value": "x", "marks": 7}], "pooled": {"value": True, "low": {}}},
        {"results": [], "pooled": {}, "name": "\x1b[2J"},
        {"results": [{"marks": [None, {}, "\x1b[2J"]}] * 3},
    ],
)
def test_what_is_odd_in_a_ranking_is_shown_as_far_as_it_can_be(
    odd: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = copy.deepcopy(ANSWER)
    answer["models"] = [{**ANSWER["models"][0], **odd}]
    answer["left_out"] = {"x": {}, "y": [1]}
    _tell(ranking_checked(json.loads(json.dumps(answer))))
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2 and "\x1b" not in shown.out + shown.err
