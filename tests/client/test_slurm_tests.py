"""Compatibility tests as jobs of a real Slurm."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cluster import Gate, Site, site
from tests.support.consortium import Consortium
from tests.support.reports import CONFIG, ran
from tests.support.slurm import eventually, slurm

__all__ = ["site", "slurm"]


def words_of(*models: Path | int) -> tuple[str, ...]:
    """The command that tests models in the queue."""
    words = [str(one if isinstance(one, int) else one / CONFIG) for one in models]
    options = [word for one in words for word in ("-m", one)]
    return ("test", "run", "-b", "1", *options, "--executor", "slurm", "--json")


def steps(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a report, without what no two runs have in common."""
    left_out = ("seconds", "source")
    return [{key: step[key] for key in step if key not in left_out} for step in report["steps"]]


def waits_for(client: "subprocess.Popen[str]", gate: Gate) -> None:
    """Return once a client says that a model runs, and is at its gate."""
    gate.is_reached()
    running = rf"job \S+ on \w+ of container {gate.model} .*: running"
    assert client.stderr is not None
    assert any(re.match(running, line) for line in client.stderr)


def is_tidy(site: Site) -> bool:
    """Whether nothing is left of what was sent."""
    folders = [site.shared / name for name in ("elements", "runs", "incoming")]
    return not site.slurm.jobs() and not any(list(one.iterdir()) for one in folders)


def test_several_models_give_in_a_queue_what_they_give_here(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    member, before = site.hospital.member, set(site.slurm.jobs("all"))
    mine = shutil.copytree(own_consortium.candidate, tmp_path / "mine")
    bad = shutil.copytree(own_consortium.candidate, tmp_path / "bad")
    (bad / "workspace" / "additional_files" / "weights.json").write_text("no weights at all")
    done = member.run(*words_of(2, mine, bad))
    assert done.returncode == 1, done.stderr
    there = json.loads(done.stdout)
    assert [one["passed"] for one in there] == [True, True, False]
    assert [ran(one) for one in there] == [["infer", "evaluate"]] * 2 + [[]]
    # One prepared the data, for all.
    sent = set(site.slurm.jobs("all"))
    assert len(sent - before) == 4 and is_tidy(site)
    assert "no weights at all" in there[2]["error"] or "exit code" in there[2]["error"]
    # This machine is where tests run that say nothing, whatever the profile names.
    here = json.loads(member.run(*words_of(2, mine, bad)[:-3], "--no-cache", "--json").stdout)
    for first, second in zip(there, here, strict=True):
        assert first.get("results") == second.get("results")
        assert steps(first) == steps(second)
    again = member.json(*words_of(mine)[:-1])
    assert again["passed"] and ran(again) == [] and set(site.slurm.jobs("all")) <= sent
    alone = member.run(*words_of(bad))
    assert alone.returncode == 1 and alone.stdout == "" and "infer.log" in alone.stderr


def test_a_client_that_is_killed_finds_what_it_sent_and_nothing_runs_twice(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    words, before = words_of(2, gate.model), set(site.slurm.jobs("all"))
    for _ in range(2):
        with member.start(*words) as client:
            try:
                waits_for(client, gate)
            finally:
                client.kill()
    eventually(lambda: len(site.slurm.jobs()) == 1, "the other model's job ended")
    # Who wants that one only leaves the rest as it is.
    assert member.json(*words_of(2)[:-1])["passed"]
    assert len(site.slurm.jobs()) == 1
    gate.open()
    eventually(lambda: not site.slurm.jobs(), "the job ended with nobody there")
    (left,) = member.json("jobs", "ls")
    assert left["state"] == "is over, and waits for: the command that sent it"
    reports = member.json(*words[:-1])
    assert [one["passed"] for one in reports] == [True, True]
    assert gate.times == 1 and is_tidy(site)
    # One for the data, one a model.
    assert len(set(site.slurm.jobs("all")) - before) == 3


def test_two_clients_that_wait_for_one_job_both_have_its_report(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    clients = []
    try:
        for _ in range(2):
            clients.append(member.start(*words_of(gate.model, 2)))
            waits_for(clients[-1], gate)
        gate.open()
        said = [client.communicate(timeout=120) for client in clients]
    finally:
        for client in clients:
            client.kill()
    for client, (out, told) in zip(clients, said, strict=True):
        assert client.returncode == 0, told
        assert [one["passed"] for one in json.loads(out)] == [True, True]
    assert gate.times == 1 and is_tidy(site)


def test_a_test_that_was_run_another_way_ends_the_job(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    with member.start(*words_of(gate.model)) as client:
        try:
            waits_for(client, gate)
        finally:
            client.kill()
    here = member.start("test", "run", "-b", "1", "-m", str(gate.model))
    gate.is_reached(2)
    # The one in the queue does not see it yet.
    for process in site.slurm.processes("main.py"):
        process.suspend()
    gate.open()
    here.communicate(timeout=60)
    report = member.json(*words_of(gate.model)[:-1])
    assert report["passed"] and ran(report) == []
    eventually(lambda: is_tidy(site), "the job was ended, and nothing is left")
