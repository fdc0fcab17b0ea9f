"""Data that are prepared already are checked and used as they are, as MedPerf's client does."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import lines
from tests.support.consortium import Consortium, Member, not_json

SKIP = "--skip-demo-data-preparation"
PREPARED = ["sanity_check", "statistics", "infer", "evaluate"]


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    """The options of `test run` for a container that plays every part."""
    config = str(lines.write_container(tmp_path / "container"))
    return ["--data_preparator", config, "--model", config, "--evaluator", config]


@pytest.fixture
def owner(own_consortium: Consortium) -> Member:
    """A member with a container of their own, UID 4, that can play every part of a benchmark."""
    return lines.submitted(own_consortium)


def submit(member: Member, host: str, *options: str) -> Any:
    """Submit a benchmark of which container 4 plays every part; its entity."""
    words = ("--name", "lines", "--demo-url", f"{host}lines.tar", "-p", "4", "-m", "4", "-e", "4")
    return member.json("benchmark", "submit", *words, "--operational", "-y", *options)


def ask(member: Member, method: str, path: str, body: Any) -> int:
    """The status that the registry answers a member with who speaks to it without our client."""
    url = f"{member.environment['MEDPERF_SERVER_URL']}/api/v0{path}"
    token = {"Authorization": f"Bearer {member.environment['MEDPERF_TOKEN']}"}
    return requests.request(method, url, json=body, headers=token, timeout=60).status_code


def folder_hash(*texts: str) -> str:
    """MedPerf's `generated_uid` of folders whose files hold these texts."""
    hashes = sorted(sha256(text.encode()).hexdigest() for text in texts)
    return sha256("".join(hashes).encode()).hexdigest()


def steps(report: dict[str, Any]) -> list[str]:
    return [step["step"] for step in report["steps"]]


def test_data_of_one_s_own_that_are_prepared_are_not_prepared_again(
    newcomer: Member, parts: Sequence[str], tmp_path: Path
) -> None:
    data, labels = lines.write_data(tmp_path / "given")
    given = ("--data_path", str(data), "--labels_path", str(labels))
    raw = newcomer.json("test", "run", *parts, *given)
    assert raw["results"] == {"lines": 4} and not raw["already_prepared"]
    report = newcomer.json("test", "run", *parts, *given, SKIP)
    assert report["results"] == report["statistics"] == {"lines": 2}
    assert steps(report) == PREPARED and report["already_prepared"]
    assert "prepared already" in newcomer.does("test", "view", "latest")


def test_a_benchmark_is_submitted_with_demo_data_that_are_prepared(
    own_consortium: Consortium, owner: Member
) -> None:
    made = submit(owner, own_consortium.host.url, SKIP)
    assert made["metadata"]["demo_dataset_already_prepared"] is True
    assert made["metadata"]["test_result"] == {"lines": 2}
    assert made["demo_dataset_generated_uid"] == folder_hash("one\ntwo\n", "malignant\n")
    report = own_consortium.member("other").json("test", "run", "--benchmark", "2")
    assert report["results"] == {"lines": 2} and steps(report) == PREPARED


def test_a_benchmark_is_registered_with_medperf_s_hash_of_what_its_demo_data_become(
    own_consortium: Consortium, owner: Member
) -> None:
    made = submit(owner, own_consortium.host.url)
    expected = folder_hash("one\ntwo\none\ntwo\n", "malignant\n")
    assert made["demo_dataset_generated_uid"] == expected


def test_who_gives_data_says_whether_they_are_prepared_whatever_the_benchmark_says(
    own_consortium: Consortium, owner: Member, tmp_path: Path
) -> None:
    submit(owner, own_consortium.host.url, SKIP)
    data, labels = lines.write_data(tmp_path / "given")
    given = ("--data_path", str(data), "--labels_path", str(labels))
    assert owner.json("test", "run", "-b", "2", *given)["results"] == {"lines": 4}
    url = ("--demo-url", f"{own_consortium.host.url}lines.tar")
    assert owner.json("test", "run", "-b", "2", *url)["results"] == {"lines": 4}
    assert owner.json("test", "run", "-b", "2", *url, SKIP)["results"] == {"lines": 2}


def test_a_benchmark_s_raw_demo_data_are_not_taken_for_prepared(newcomer: Member) -> None:
    done = newcomer.run("test", "run", "--benchmark", "1", SKIP)
    assert done.returncode == 2
    assert "the demo data of benchmark 1 (breast-cancer) are not prepared" in done.stderr


@pytest.mark.parametrize("said", ["yes", "false", 1, None])
def test_a_benchmark_that_says_neither_yes_nor_no_is_refused_by_name(
    own_consortium: Consortium, owner: Member, said: object
) -> None:
    roles = ("data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube")
    body = {
        "name": "odd",
        "demo_dataset_tarball_url": f"{own_consortium.host.url}lines.tar",
        "demo_dataset_tarball_hash": "1" * 64,
        "demo_dataset_generated_uid": "2" * 64,
        **dict.fromkeys(roles, 4),
        "metadata": {"demo_dataset_already_prepared": said},
    }
    assert ask(owner, "POST", "/benchmarks/", body) == 201
    done = owner.run("test", "run", "--benchmark", "2")
    assert done.returncode == 1
    assert "metadata.demo_dataset_already_prepared: expected true or false" in done.stderr


def test_metadata_of_prepared_data_reach_the_statistics_and_are_empty_where_there_are_none(
    newcomer: Member, tmp_path: Path
) -> None:
    config = lines.write_container(tmp_path / "container")
    text = config.read_text()
    before, statistics, after = text.partition("  statistics:")
    named = "metadata_path: {mount_path: /volumes/data/, type: directory}"
    after = after.replace("data_path: {mount_path: /volumes/data, type: directory}", named, 1)
    config.write_text(before + statistics + after)
    parts = [word for name in ("-p", "-m", "-e") for word in (name, str(config))]
    data, labels = lines.write_data(tmp_path / "given")
    done = newcomer.run(
        *("test", "run", *parts, "--data_path", str(data), "--labels_path", str(labels), SKIP)
    )
    # The program finds the folder, and no lines in it.
    assert done.returncode == 1 and "FileNotFoundError" in done.stderr
    assert "nothing provides" not in done.stderr


def test_two_sources_of_data_are_refused_rather_than_one_of_them_ignored(
    newcomer: Member, tmp_path: Path
) -> None:
    data, labels = lines.write_data(tmp_path / "given")
    given = ("--data_path", str(data), "--labels_path", str(labels))
    done = newcomer.run("test", "run", "-b", "1", *given, "--demo-url", "http://127.0.0.1:9/a.tar")
    assert done.returncode == 2 and "two sources of data" in done.stderr
    done = newcomer.run("test", "run", "-b", "1", "--demo-hash", "0" * 64)
    assert done.returncode == 2 and "--demo-url" in done.stderr


def test_a_container_that_its_owner_took_back_is_not_used(
    own_consortium: Consortium, owner: Member
) -> None:
    submit(owner, own_consortium.host.url)
    assert ask(owner, "PUT", "/mlcubes/4/", {"is_valid": False}) == 200
    other = own_consortium.member("other")
    done = other.run("test", "run", "--benchmark", "1", "--model", "4")
    assert done.returncode == 1
    said = "container 4 (lines) is marked as invalid in the registry"
    assert said in done.stderr
    for command in ("fetch", "status"):
        parts, _ = not_json(other, "benchmark", command, "2")
        (image,) = [part for part in parts["parts"] if part["part"] == "image"]
        assert image["missing"] == said
