"""Models of a benchmark as jobs of a real Slurm: the results are those of this machine."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import Site, site
from tests.support.consortium import Consortium
from tests.support.forks import ROOT
from tests.support.hospital import approve, with_another_model
from tests.support.slurm import NODES, eventually, slurm
from tests.support.tutorials import typed

__all__ = ["site", "slurm"]

# In the place of sbatch: sends, and kills who called it.
AS_IT_SENT = '#!/bin/sh\n{sbatch} "$@"\nkill -9 $PPID\n'
GUIDE = ROOT / "docs" / "site-guide.md"


@contextmanager
def usual_umask() -> Iterator[None]:
    """Have new files be readable for others in the block, unless somebody takes care."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def killed_by(site: Site, folder: Path, script: str) -> None:
    """Run all models with a script in the place of sbatch, which kills who called it."""
    program = shutil.which("sbatch")
    (folder / "sbatch").write_text(script.format(sbatch=program))
    (folder / "sbatch").chmod(0o755)
    member = site.hospital.member
    path = member.environment["PATH"]
    member.environment["PATH"] = f"{folder}:{path}"
    with site.running() as client:
        client.communicate(timeout=120)
    assert client.returncode == -signal.SIGKILL
    member.environment["PATH"] = path


def test_eight_models_give_what_they_give_on_this_machine(
    own_consortium: Consortium, site: Site
) -> None:
    for number in range(1, 7):
        with_another_model(own_consortium, f"mlp-{number}", "./" * number + "main.py")
    broken = with_another_model(own_consortium, "broken", "no-such-program.py")
    site.hospital.member.does("sync")
    there = site.run()
    steps = {one["model"]: site.steps(one) for one in there if one["result"]}
    assert len(there) == 8 and {len(one) for one in steps.values()} == {2}
    # It leaves nothing but what is worth keeping.
    assert site.elements() == [] and list((site.shared / "runs").iterdir()) == []
    assert site.slurm.jobs() == []
    here = site.run("--no-cache", "--executor", "local")
    for first, second in zip(there, here, strict=True):
        assert (first["model"], first["results"]) == (second["model"], second["results"])
        assert bool(first["error"]) == bool(second["error"]) == (first["model"] == broken)
        assert (Path(first["logs"]) / "infer.log").exists()
        if second["result"]:
            assert steps[first["model"]] == site.steps(second)
    (failed,) = [one["error"] for one in there if one["error"]]
    assert "failed with exit code 2" in failed and "no-such-program.py" in failed
    assert str(Path(failed.split("Its output, in ")[1].split(", ends")[0])) in failed
    again = site.run()
    assert [one["from_cache"] for one in again] == [one["model"] != broken for one in again]


def test_the_commands_of_the_guide_do_what_it_says(own_consortium: Consortium, site: Site) -> None:
    with_another_model(own_consortium)
    site.hospital.member.does("sync")
    commands = [one for one in typed(GUIDE) if one.heading == "Models on a cluster"]
    assert len(commands) == 4
    for command in commands:
        site.hospital.member.does(*command.words)
    assert {one["from_cache"] for one in site.run()} == {True}
    # Whatever else runs models runs them there, too.
    before = len(site.slurm.jobs("all"))
    site.hospital.member.does(
        "result", "create", "-b", "1", "-d", site.uid, "-m", "2", "--no-cache"
    )
    assert len(site.slurm.jobs("all")) == before + 1


def test_a_client_that_is_killed_finds_its_job_and_what_that_gave(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    for _ in range(2):
        with site.running() as client:
            gate.is_reached()
            time.sleep(1)
            client.kill()
    (job,) = site.slurm.jobs()
    gate.open()
    eventually(lambda: not site.slurm.jobs(), "the job ended with nobody there")
    outcomes = {one["model"]: one for one in site.run()}
    assert outcomes[gate.model]["results"]["auroc"] > 0.9
    assert gate.times == 1 and site.elements() == []
    assert [one for one in site.slurm.jobs("all") if one == job] == [job]


@pytest.mark.parametrize(
    "script",
    [
        AS_IT_SENT,
        # Slurm has it only once the next client is at work.
        '#!/bin/sh\nkill -9 $PPID\nsleep 3\nexec {sbatch} "$@"\n',
    ],
    ids=["after", "before"],
)
def test_a_client_that_is_killed_as_it_sends_sends_nothing_twice(
    own_consortium: Consortium, site: Site, tmp_path: Path, script: str
) -> None:
    gate = site.gated(own_consortium)
    before = set(site.slurm.jobs("all"))
    killed_by(site, tmp_path, script)
    gate.open()
    outcomes = {one["model"]: one for one in site.run()}
    assert outcomes[gate.model]["error"] is None and gate.times == 1
    assert len(set(site.slurm.jobs("all")) - before) == 1
    assert site.elements() == []


def test_a_job_that_is_killed_is_sent_again_and_not_for_ever(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    gate = site.gated(own_consortium)
    # That this client had sent it counts, too.
    killed_by(site, tmp_path, AS_IT_SENT)
    with site.running() as client:
        for times in (1, 2, 3):
            gate.is_reached(times)
            (worker,) = site.slurm.processes("--element")
            worker.kill()
        said, told = client.communicate(timeout=120)
    (outcome,) = [one for one in json.loads(said) if one["model"] == gate.model]
    assert (
        "ended before it was done, the last of 3 tries" in outcome["error"]
        and "began" in outcome["error"]
    )
    assert told.count("ended before it was done, and is sent again") == 2
    assert site.elements() == [] and site.slurm.jobs() == [] and gate.times == 3
    # It costs nothing but another command.
    gate.open()
    assert {one["error"] for one in site.run()} == {None}


def test_what_is_cancelled_is_told_and_runs_when_it_is_asked_for(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        site.slurm.says("scancel", *site.slurm.jobs())
        said, _ = client.communicate(timeout=120)
    (outcome,) = [one for one in json.loads(said) if one["model"] == gate.model]
    assert "was cancelled" in outcome["error"]
    gate.open()
    assert {one["error"] for one in site.run()} == {None} and gate.times == 2


def test_a_controller_that_is_started_again_has_its_jobs(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        site.slurm.kill("slurmctld", "-D")
        gate.open()
        time.sleep(3)
        site.slurm.start()
        said, told = client.communicate(timeout=200)
    assert {one["error"] for one in json.loads(said)} == {None}, told
    assert gate.times == 1 and site.elements() == []


def test_a_node_that_is_lost_loses_no_run(own_consortium: Consortium, site: Site) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        (job,) = site.slurm.jobs()
        (node,) = set(site.slurm.says("squeue", "-h", f"--job={job}", "-o%N").split())
        site.slurm.kill("slurmd", "-D", "-N", node)
        for process in site.slurm.processes("slurmstepd", "--element"):
            with suppress(psutil.Error):
                process.kill()
        gate.is_reached(2)
        gate.open()
        said, told = client.communicate(timeout=200)
    site.slurm.start()
    assert {one["error"] for one in json.loads(said)} == {None}, told
    assert gate.times == 2 and site.elements() == []


def test_a_node_daemon_that_is_killed_and_started_again_loses_no_job(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        for node in NODES:
            site.slurm.kill("slurmd", "-D", "-N", node)
        site.slurm.start()
        gate.open()
        said, told = client.communicate(timeout=200)
    assert {one["error"] for one in json.loads(said)} == {None}, told
    assert gate.times == 1 and site.elements() == []


def with_gpus(consortium: Consortium, name: str, gpus: int) -> int:
    """Have one more model, like that of a name, which asks for so many GPUs; its UID."""
    text = (consortium.host.folder / f"{name}.yaml").read_text()
    assert text.count("    run_args:\n") == 1
    changed = text.replace("    run_args:\n", f"    run_args:\n      gpus: {gpus}\n")
    (consortium.host.folder / "with-gpus.yaml").write_text(changed)
    options = consortium.container_options("model_mlp")
    options[1] = f"{consortium.host.url}with-gpus.yaml"
    return approve(consortium, "with-gpus", options)


def test_a_job_asks_for_the_gpus_that_its_container_asks_for(
    own_consortium: Consortium, site: Site
) -> None:
    gates = [site.gated(own_consortium, f"gated-{number}") for number in range(2)]
    uid = with_gpus(own_consortium, "gated-1", 1)
    site.hospital.member.does("sync")
    with site.running() as client:
        gates[1].is_reached(2)
        asked = site.slurm.says("squeue", "--array", "--noheader", "--format=%b").split()
        for gate in gates:
            gate.open()
        said, told = client.communicate(timeout=200)
    assert sorted(asked) == ["N/A", "N/A", "gres:gpu:1"], told
    assert {one["model"]: one["error"] for one in json.loads(said)}[uid] is None


def test_a_queue_is_asked_a_few_times_however_many_wait(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    gates = [site.gated(own_consortium, f"gated-{number}") for number in range(6)]
    calls = tmp_path / "calls"
    for program in ("sbatch", "squeue", "sacct", "scancel"):
        script = f'#!/bin/sh\necho {program} >> {calls}\nexec {shutil.which(program)} "$@"\n'
        (tmp_path / program).write_text(script)
        (tmp_path / program).chmod(0o755)
    environment = site.hospital.member.environment
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    with site.running() as client:
        eventually(lambda: sum(gate.times for gate in gates) == 4, "as many began as have room")
        time.sleep(8)
        for gate in gates:
            gate.open()
        said, _ = client.communicate(timeout=200)
    assert {one["error"] for one in json.loads(said)} == {None}
    made = calls.read_text().split()
    assert made.count("sbatch") == 1 and len(made) < 16, made


def test_who_sends_ends_what_the_queue_has_again_of_runs_that_were_forgotten(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    gate, runs = site.gated(own_consortium), site.shared / "runs"
    for folder in (site.shared, runs):
        folder.mkdir(mode=0o700)

    def brought_back(run: str, place: Path, mark: str = "medperf") -> str:
        """A job as one that a killed controller has again, which it holds."""
        place.mkdir(parents=True, exist_ok=True)
        words = [f"--comment={mark} {run}", f"--job-name=medperf-{run[:16]}", f"--chdir={place}"]
        more = ("--parsable", "--hold", "--array=0-1", "--output=/dev/null", "--wrap=true")
        return site.slurm.says("sbatch", *words, *more).strip()

    forgotten = brought_back("ab" * 32, runs / ("ab" * 32))
    (runs / ("ab" * 32)).rmdir()
    others = [
        brought_back("cd" * 32, tmp_path / "another" / "runs" / ("cd" * 32)),
        brought_back("ef" * 32, tmp_path, "another"),
        brought_back("ab" * 32, tmp_path),
    ]
    (tmp_path / "another" / "runs" / ("cd" * 32)).rmdir()
    assert len(site.slurm.jobs()) == 8 and all([forgotten, *others])
    gate.open()
    assert {one["error"] for one in site.run()} == {None}
    assert {job.partition("_")[0] for job in site.slurm.jobs()} == set(others)


def test_what_the_policy_does_not_admit_is_not_sent(own_consortium: Consortium, site: Site) -> None:
    gate = site.gated(own_consortium)
    entries = [site.hospital.member.json("container", "view", str(uid)) for uid in (2, 3)]
    pins = [{name: one[name] for name in ("mlcube_hash", "parameters_hash")} for one in entries]
    policy = site.hospital.member.home / "policy.yaml"
    policy.write_text(f"run:\n  containers: {json.dumps(pins)}\n")
    (outcome,) = [one for one in site.run() if one["model"] == gate.model]
    assert "no entry of run.containers names it" in outcome["error"]
    assert site.elements() == [] and gate.times == 0


def test_who_stops_waiting_leaves_the_job_to_the_queue(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        client.send_signal(signal.SIGINT)
        _, told = client.communicate(timeout=60)
    assert client.returncode == 130
    assert "1 jobs go on without this: the same command collects them" in told
    (job,) = site.slurm.jobs()
    member = site.hospital.member
    (shown,) = member.json("jobs", "ls")
    assert (shown["job"], shown["state"], shown["tries"]) == (job, "runs", 1)
    assert shown["node"] in ("north", "south") and f"container {gate.model} " in shown["model"]
    assert "began" in member.does("jobs", "logs", shown["element"][:12])
    gate.open()
    eventually(lambda: not site.slurm.jobs(), "the job ended")
    (shown,) = member.json("jobs", "ls")
    assert shown["state"] == "is over, and waits for: medperf jobs collect"
    assert member.does("jobs", "cancel", "-y") == "Ended 0 jobs.\n"
    assert {one["error"] for one in site.run()} == {None} and gate.times == 1
    assert member.json("jobs", "ls") == []


def test_jobs_that_nobody_wants_any_more_are_cancelled(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    with site.running() as client:
        gate.is_reached()
        client.kill()
    assert "0 elements have names" in member.run("jobs", "cancel", "zz", "-y").stderr
    assert member.does("jobs", "cancel", "-y") == "Ended 1 jobs.\n"
    eventually(lambda: not site.slurm.jobs(), "the job ended")
    assert site.elements() == [] and list((site.shared / "runs").iterdir()) == []
    assert member.does("jobs", "cancel", "-y") == "There are none.\n"
    gate.open()
    assert {one["error"] for one in site.run()} == {None} and gate.times == 2
    member.does("profile", "set", "executor", "null")
    done = member.run("jobs", "ls", "--json")
    assert json.loads(done.stdout) == [] and "the profile names no queue" in done.stderr
    done = member.run(*site.words, "--executor", "slurm")
    assert done.returncode == 2 and "names no executor slurm" in done.stderr


def test_nobody_else_can_read_anything(own_consortium: Consortium, site: Site) -> None:
    gate = site.gated(own_consortium)
    with usual_umask(), site.running() as client:
        gate.is_reached()
        time.sleep(1)
        (worker,) = site.slurm.processes("--element")
        inherited, token = worker.environ(), site.hospital.member.environment["MEDPERF_TOKEN"]
        written = [path for path in site.shared.rglob("*") if path.is_file()]
        shown = site.slurm.says("scontrol", "show", "job", "--details")
        client.kill()
    assert not [name for name in inherited if name.startswith("MEDPERF_")]
    assert token not in shown + str(inherited)
    assert len(written) > 10
    assert not [path for path in written if token.encode() in path.read_bytes()]
    assert site.shared.stat().st_mode & 0o777 == 0o700
    for path in site.shared.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, path
    gate.open()
    assert {one["error"] for one in site.run()} == {None}


def test_a_folder_that_others_may_enter_is_refused(site: Site) -> None:
    site.shared.mkdir(mode=0o755)
    (outcome,) = site.run("--no-cache")
    assert f"others than you may enter {site.shared}" in outcome["error"]
    assert list(site.shared.iterdir()) == []


def test_what_the_queue_refuses_is_said_in_its_words(site: Site) -> None:
    site.setting(partition="nowhere")
    done = site.hospital.member.run(*site.words, "--no-cache")
    assert done.returncode == 1 and "sbatch refused" in done.stderr
    assert "invalid partition" in done.stderr.lower() and "profile view" in done.stderr
    # It is sent once it can be.
    site.setting(directives={"nice": 10})
    assert len(site.elements()) == 1
    assert {one["error"] for one in site.run("--no-cache")} == {None}
    assert site.elements() == []


def test_what_the_queue_refuses_of_one_model_costs_the_others_nothing(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    uid = with_gpus(own_consortium, "gated", 3)
    site.hospital.member.does("sync")
    with site.running() as client:
        gate.is_reached()
        gate.open()
        said, told = client.communicate(timeout=120)
    errors = {one["model"]: one["error"] for one in json.loads(said)}
    assert "sbatch refused" in errors.pop(uid) and set(errors.values()) == {None}, told
    assert len(errors) == 2 and site.elements() == [] and gate.times == 1


@pytest.mark.parametrize("more", [(), ("--no-wait",)])
def test_what_cannot_be_sent_costs_nothing_that_is_here(
    own_consortium: Consortium, site: Site, tmp_path: Path, more: tuple[str, ...]
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    gate.open()
    usual = member.environment["PATH"]
    member.environment["PATH"] = str(tmp_path)
    done = member.run(*site.words, *more)
    assert done.returncode == 1
    outcomes = {one["model"]: one["error"] for one in json.loads(done.stdout)}
    assert "sbatch is not on PATH" in outcomes.pop(gate.model)
    assert list(outcomes.values()) == [None] and "where jobs are sent to Slurm from" in done.stderr
    assert "printed" not in done.stderr
    member.environment["PATH"] = usual
    assert {one["error"] for one in site.run()} == {None}


def other_bytes(element: Path) -> None:
    (file,) = element.glob("*/outputs/output_path/predictions.csv")
    file.chmod(0o644)
    file.write_text(file.read_text().replace("0.", "0.1"))


def link_out(element: Path) -> None:
    (file,) = element.glob("*/outputs/output_path/predictions.csv")
    file.parent.chmod(0o755)
    file.unlink()
    file.symlink_to("/etc/passwd")


def other_key(element: Path) -> None:
    for record in element.glob("*/record.json"):
        text = json.loads(record.read_text())
        record.write_text(json.dumps({**text, "key": "ab" * 32}))


def other_step(element: Path) -> None:
    first, second = json.loads((element / "element.json").read_text())["steps"]
    shutil.copyfile(element / second / "record.json", element / first / "record.json")


def no_json(element: Path) -> None:
    for record in element.glob("*/record.json"):
        record.write_text("{")


def more_words(element: Path) -> None:
    for record in element.glob("*/record.json"):
        text = json.loads(record.read_text())
        text["record"]["signed_by"] = "cd" * 32
        record.write_text(json.dumps(text))


def no_engine(element: Path) -> None:
    for record in element.glob("*/record.json"):
        text = json.loads(record.read_text())
        text["record"]["engine"] = ["docker"]
        record.write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (other_bytes, "but its record names"),
        (link_out, "is not what its job left"),
        (other_key, f"is of another step: it names '{'ab' * 32}'"),
        (other_step, "is of another step"),
        (no_json, "record.json"),
        (more_words, "says more than the record"),
        (no_engine, "names no engine that runs steps: ['docker']"),
    ],
)
def test_what_is_not_as_the_job_left_it_is_refused_by_name(
    own_consortium: Consortium, site: Site, tamper: Callable[[Path], None], said: str
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        client.kill()
    gate.open()
    eventually(lambda: not site.slurm.jobs(), "the job ended")
    (element,) = site.elements()
    tamper(element)
    (outcome,) = [one for one in site.run() if one["model"] == gate.model]
    assert said in outcome["error"] and str(element) in outcome["error"]
    assert outcome["result"] is None and site.elements() == [element]
    # Nothing of it is remembered, and it goes where nobody looks at it any more.
    shutil.rmtree(element)
    assert {one["error"] for one in site.run()} == {None} and gate.times == 2


def test_a_record_of_before_engines_were_noted_is_taken_and_names_none(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        client.kill()
    gate.open()
    eventually(lambda: not site.slurm.jobs(), "the job ended")
    (element,) = site.elements()
    noted = set()
    for record in element.glob("*/record.json"):
        text = json.loads(record.read_text())
        noted.add(text["record"].pop("engine"))
        record.write_text(json.dumps(text))
    (outcome,) = [one for one in site.run() if one["model"] == gate.model]
    steps = site.hospital.member.json("result", "view", outcome["result"])["steps"]
    assert noted == {"process"} and steps and not any("engine" in one for one in steps)


def test_what_makes_room_for_others_is_sent_again(own_consortium: Consortium, site: Site) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--wait", "--wrap=sleep 1")
        site.slurm.says("sbatch", f"--output={os.devnull}", *urgent)
        gate.is_reached(2)
        gate.open()
        said, told = client.communicate(timeout=200)
    assert "had to make room for others, and is sent again" in told
    assert {one["error"] for one in json.loads(said)} == {None} and gate.times == 2


def test_what_runs_out_of_its_time_is_not_tried_again(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    site.setting(time="1")
    (outcome,) = [one for one in site.run() if one["model"] == gate.model]
    assert "ran longer than its time" in outcome["error"] and "began" in outcome["error"]
    assert gate.times == 1 and site.elements() == [] and site.slurm.jobs() == []


def test_what_runs_out_of_its_memory_is_not_tried_again(
    own_consortium: Consortium, site: Site
) -> None:
    text = "-c \"import time; print('began', flush=True); it = b'x' * (400 << 20); time.sleep(90)\""
    greedy = with_another_model(own_consortium, "greedy", text)
    site.hospital.member.does("sync")
    site.setting(memory="200M")
    (outcome,) = [one for one in site.run() if one["model"] == greedy]
    assert "ran out of memory" in outcome["error"] and "began" in outcome["error"]
    assert site.elements() == [] and site.slurm.jobs() == []


def test_so_many_run_at_a_time_as_one_asks_for(own_consortium: Consortium, site: Site) -> None:
    gates = [site.gated(own_consortium, f"gated-{number}") for number in range(2)]
    with site.running("--jobs", "1") as client:
        eventually(lambda: sum(gate.times for gate in gates) == 1, "one of them began")
        time.sleep(3)
        assert sorted(gate.times for gate in gates) == [0, 1]
        for gate in gates:
            gate.open()
        said, told = client.communicate(timeout=200)
    assert {one["error"] for one in json.loads(said)} == {None}, told


def test_what_is_taken_back_elsewhere_costs_nobody_else(
    own_consortium: Consortium, site: Site
) -> None:
    gate, other = site.gated(own_consortium), site.gated(own_consortium, "other")
    member = site.hospital.member
    with site.running() as client:
        gate.is_reached()
        other.is_reached()
        (name,) = [
            one["element"]
            for one in member.json("jobs", "ls")
            if f"container {gate.model} " in one["model"]
        ]
        assert member.does("jobs", "cancel", name[:12], "-y") == "Ended 1 jobs.\n"
        other.open()
        said, told = client.communicate(timeout=200)
    errors = {one["model"]: one["error"] for one in json.loads(said)}
    # Who waits sees that the element is gone, or what the queue says of its job.
    assert "was cancelled" in errors.pop(gate.model) and set(errors.values()) == {None}, told


def test_a_result_that_came_another_way_ends_the_job(
    own_consortium: Consortium, site: Site
) -> None:
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        client.kill()
    running = site.hospital.member.start(*site.words, "--executor", "local")
    gate.is_reached(2)
    # The one in the queue does not see it yet.
    for process in site.slurm.processes("main.py"):
        process.suspend()
    gate.open()
    running.communicate(timeout=60)
    assert {one["from_cache"] for one in site.run()} == {True}
    eventually(lambda: not site.slurm.jobs(), "the job was ended")
    assert site.elements() == []
