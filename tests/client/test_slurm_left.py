"""Models that were left to a queue: whoever comes later collects them, and costs nobody else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.cluster import Gate, Site, site
from tests.support.consortium import Consortium
from tests.support.hospital import with_another_model
from tests.support.slurm import eventually, slurm
from tests.support.watching import Watching

__all__ = ["site", "slurm"]


def left(site: Site) -> list[Path]:
    """The notes of models that were left to the queue."""
    return list(site.hospital.member.home.glob("registries/*/awaited/*.json"))


def collected(site: Site, *words: str) -> list[dict[str, Any]]:
    """What became of the models that a command of `medperf jobs` collects."""
    done = site.hospital.member.run("jobs", *words, "--json")
    assert done.stdout, done.stderr
    outcomes: list[dict[str, Any]] = json.loads(done.stdout)
    return outcomes


def test_what_is_left_to_the_queue_is_collected_by_whoever_comes(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    broken = with_another_model(own_consortium, "broken", "no-such-program.py")
    member = site.hospital.member
    member.does("sync")
    done = member.run(*site.words, "--no-wait")
    assert done.returncode == 0 and "2 models are left to the queue" in done.stderr
    # The reference model has its result from before.
    assert [one["from_cache"] for one in json.loads(done.stdout)] == [True]
    gate.is_reached()
    eventually(lambda: len(site.slurm.jobs()) == 1, "the broken one has ended")
    (failed,) = collected(site, "collect")
    assert failed["model"] == broken and "no-such-program.py" in failed["error"]
    (shown,) = member.json("jobs", "ls")
    assert (shown["benchmark"], shown["dataset"]) == (1, int(site.uid))
    # Nothing has ended, nothing is sent again.
    assert collected(site, "collect") == [] and len(left(site)) == 1
    with member.start("jobs", "wait", "--json") as waiting:
        gate.open()
        said, _ = waiting.communicate(timeout=120)
    (outcome,) = json.loads(said)
    assert outcome["model"] == gate.model and outcome["results"]["auroc"] > 0.9
    assert waiting.returncode == 0 and gate.times == 1
    assert site.elements() == left(site) == site.slurm.jobs() == []
    assert collected(site, "wait") == []


def test_what_is_taken_back_is_not_waited_for(own_consortium: Consortium, site: Site) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    member.does(*site.words, "--no-wait")
    gate.is_reached()
    member.does("jobs", "cancel", "-y")
    assert collected(site, "wait") == left(site) == site.elements() == []
    # So it is with what somebody else took back.
    member.does(*site.words, "--no-wait")
    gate.is_reached(2)
    (note,) = left(site)
    text = note.read_text()
    member.does("jobs", "cancel", "-y")
    note.write_text(text)
    assert collected(site, "wait") == left(site) == site.elements() == []


def test_who_waits_for_some_of_a_run_leaves_the_others_alone(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    gates = [site.gated(own_consortium, f"gated-{number}") for number in range(2)]
    member = site.hospital.member
    member.does(*site.words, "--no-wait")
    for gate in gates:
        gate.is_reached()
    (tmp_path / "models").write_text(f"{gates[0].model}\n")
    gates[0].open()
    (outcome,) = site.run("--models-from-file", str(tmp_path / "models"))
    assert outcome["error"] is None and len(site.slurm.jobs()) == 1
    gates[1].open()
    assert [one["model"] for one in collected(site, "wait")] == [gates[1].model]
    assert [gate.times for gate in gates] == [1, 1]


def test_a_watch_collects_what_has_ended_and_sends_what_is_new(
    own_consortium: Consortium, site: Site, watch: Callable[[], Watching]
) -> None:
    asked, member = site.gated(own_consortium, "asked"), site.hospital.member
    member.does(*site.words, "--no-wait")
    member.does("benchmark", "follow", "-b", "1", "-d", site.uid)
    ordered = site.gated(own_consortium, "ordered")
    watching = watch()
    for gate in (asked, ordered):
        gate.is_reached()
    # It waits for neither: another one comes, runs and is collected.
    third = with_another_model(own_consortium, "third", "./main.py")
    watching.says(f"gave b1m{third}d{site.uid}")
    for gate in (ordered, asked):
        gate.open()
        watching.says(f"container {gate.model} ({name_of(gate)}) gave b1m{gate.model}d{site.uid}")
    (order,) = member.json("benchmark", "follow", "ls")
    assert order["last"]["model"] == ordered.model and order["trouble"] is None
    # It says what it kept before it forgets the job.
    eventually(lambda: site.elements() == left(site) == [], "no job is noted any more")
    watching.end()
    assert asked.times == ordered.times == 1


def name_of(gate: Gate) -> str:
    """What the model at a gate is called."""
    return gate.path.name


def test_what_is_left_is_not_forgotten_while_its_folder_is_away(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    member.does(*site.words, "--no-wait")
    gate.is_reached()
    hidden = site.shared.rename(site.shared.with_name("unmounted"))
    for word in ("ls", "collect", "wait", "cancel", "logs"):
        # The place of a disk that is not mounted: nothing, then an empty folder, then a file.
        for made in (lambda: None, lambda: site.shared.mkdir(0o700), lambda: site.shared.touch()):
            made()
            done = member.run("jobs", word)
            assert done.returncode == 1 and "executor.shared_folder" in done.stderr, done.stderr
            if site.shared.is_dir():
                site.shared.rmdir()
        site.shared.unlink()
    site.setting(shared_folder=str(site.shared / "deeper" / "down"))
    done = member.run(*site.words)
    outcomes = {one["model"]: one["error"] for one in json.loads(done.stdout)}
    assert done.returncode == 1 and "executor.shared_folder" in outcomes.pop(gate.model)
    assert set(outcomes.values()) == {None} and "printed" not in done.stderr
    assert len(left(site)) == 1 and not site.shared.exists()
    site.setting()
    hidden.rename(site.shared)
    gate.open()
    (outcome,) = collected(site, "wait")
    assert outcome["model"] == gate.model and gate.times == 1 and left(site) == []


def test_what_is_left_is_told_where_the_profile_names_no_queue_any_more(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    member.does(*site.words, "--no-wait")
    gate.is_reached()
    member.does("profile", "set", "executor", "null")
    for word in ("ls", "collect", "wait", "cancel", "logs"):
        done = member.run("jobs", word)
        assert done.returncode == 1 and "1 models are left to a queue" in done.stderr
        assert "executor in config.example.yaml" in done.stderr
    assert len(left(site)) == 1
    site.setting()
    gate.open()
    assert [one["model"] for one in collected(site, "wait")] == [gate.model]


def test_only_a_queue_can_be_left_alone(site: Site) -> None:
    member = site.hospital.member
    done = member.run(*site.words, "--no-wait", "--executor", "local")
    assert done.returncode == 2 and "--no-wait is for models that run in a queue" in done.stderr
    member.does("profile", "set", "executor", "null")
    for word in ("collect", "wait"):
        done = member.run("jobs", word, "--json")
        assert json.loads(done.stdout) == [] and "the profile names no queue" in done.stderr
