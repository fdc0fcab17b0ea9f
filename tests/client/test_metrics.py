"""What a benchmark's metrics mean is said in a file, which is read strictly, and goes with it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medperf_client.errors import MedPerfError
from medperf_client.kinds.metrics import read_metrics, require_known
from tests.support import lines
from tests.support.consortium import Consortium, Member
from tests.support.metrics import AUROC, BAD, GOOD, LOSS


@pytest.mark.parametrize("name", GOOD)
def test_what_is_described_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text(yaml.safe_dump({"metrics": GOOD[name]}))
    assert read_metrics(file) == GOOD[name]


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_by_its_place(tmp_path: Path, name: str) -> None:
    metrics, place = BAD[name]
    file = tmp_path / "metrics.yaml"
    file.write_text(yaml.safe_dump({"metrics": metrics}))
    with pytest.raises(MedPerfError) as caught:
        read_metrics(file)
    problems = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert str(file) in str(caught.value) and caught.value.hint
    assert len(problems) == 1 and problems[0].startswith(place)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metrics: [", "is not YAML"),
        ("metrics: []\nmetrics: []", "is there twice"),
        ("", "expected 'metrics:' with a list, and nothing else, found nothing"),
        ("metrics: [{name: a, better: lower}]\nmore: 1", "and nothing else"),
        ("metrics: [{name: a, better: lower, range: [.nan, 1]}]", "metrics[0].range"),
    ],
)
def test_a_file_that_describes_none_is_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text(text)
    with pytest.raises(MedPerfError) as caught:
        read_metrics(file)
    assert told in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text("metrics: [{name: a, better: up, rank: 1}, {better: lower}]")
    with pytest.raises(MedPerfError) as caught:
        read_metrics(file)
    for told in ("metrics[0].better", "'rank' is not one of", "metrics[1].name: expected"):
        assert told in str(caught.value)


RESULTS: dict[str, Any] = {"auroc": "nan", "auroc_ci": [0.8, 0.9], " by class": {"loss": 1}}


def test_what_the_test_has_is_known_whatever_it_is() -> None:
    require_known([AUROC, LOSS], RESULTS)


def test_what_the_test_does_not_have_is_named_with_what_it_has() -> None:
    with pytest.raises(MedPerfError, match="no 'dice'; they have: auroc, auroc_ci/0, auroc_ci/1"):
        require_known([{"name": "dice"}], RESULTS)
    with pytest.raises(MedPerfError, match="no 'ci/0'"):
        require_known(
            [{"name": "auroc", "interval": {"low": "ci/0", "high": "auroc_ci/1"}}], RESULTS
        )


@pytest.fixture
def owner(own_consortium: Consortium) -> Member:
    """A member with a container of their own, UID 4, that can play every part of a benchmark."""
    return lines.submitted(own_consortium)


def submit_words(consortium: Consortium, file: Path) -> list[str]:
    """How to submit a benchmark with what a file says of its metrics."""
    url = f"{consortium.host.url}lines.tar"
    words = ["benchmark", "submit", "--name", "lines", "--demo-url", url, "--operational", "-y"]
    return [*words, "-p", "4", "-m", "4", "-e", "4", "--metrics", str(file)]


def test_a_benchmark_carries_what_its_metrics_mean(
    own_consortium: Consortium, owner: Member, tmp_path: Path
) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text("metrics: [{name: lines, better: higher, range: [0, null]}]")
    made = owner.json(*submit_words(own_consortium, file))
    assert made["metadata"]["metrics"] == [
        {"name": "lines", "better": "higher", "range": [0, None]}
    ]
    assert made["metadata"]["test_result"] == {"lines": 4}


def test_a_metric_that_the_test_has_not_is_refused_before_anything_is_sent(
    own_consortium: Consortium, owner: Member, tmp_path: Path
) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text("metrics: [{name: auroc, better: higher}]")
    done = owner.run(*submit_words(own_consortium, file))
    assert done.returncode == 1
    assert "no 'auroc'; they have: lines" in done.stderr and "Name each" in done.stderr
    assert owner.json("queue", "ls") == []
