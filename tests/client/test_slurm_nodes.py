"""What jobs of a real Slurm take of a node: time and memory, and room on its own disk."""

import base64
import json
import os
import shutil
from pathlib import Path

from medperf_cache.digests import stored
from medperf_client.execution.work import Work
from medperf_client.kinds.result import STATEMENT, said_of
from tests.support.cluster import Site, site
from tests.support.consortium import Consortium
from tests.support.disks import small_disk
from tests.support.hospital import direct, with_another_model
from tests.support.processes import command_of
from tests.support.slurm import NODES, slurm

__all__ = ["site", "slurm", "small_disk"]

MEMORY = 930 << 20
GREEDY = (
    f'-c "import os, runpy, time; taken = os.urandom(1 << 20) * {MEMORY >> 20}; time.sleep(1);'
    " runpy.run_path('main.py', run_name='__main__')\""
)


def copies(folder: Path) -> list[Path]:
    """The copies below a folder on a node."""
    content = folder / f"medperf-copies-{os.getuid()}" / "content"
    return [*stored(content / "blobs"), *stored(content / "trees")]


def test_what_a_job_took_is_shown_beside_what_it_asked_for(
    own_consortium: Consortium, site: Site
) -> None:
    member = site.hospital.member
    site.setting(time="10", memory="2G")
    greedy = with_another_model(own_consortium, "greedy", GREEDY)
    broken = with_another_model(own_consortium, "broken", "no-such-program.py")
    member.does("sync")
    outcomes = {one["model"]: one for one in site.run()}
    used = outcomes[greedy]["used"]
    assert 1 < used["seconds"] < 100 and 0 <= used["waited_seconds"] < 100
    assert used["node"] in NODES and used["cpu_seconds"] > 0
    assert used["memory_of"] == "process" and MEMORY < used["memory_bytes"] < 2 * MEMORY
    assert (used["asked_seconds"], used["asked_bytes"]) == (600, 2 << 30)
    # It is kept with the result. What failed took something, what is known already nothing.
    assert member.json("result", "view", outcomes[greedy]["result"])["used"] == used
    assert outcomes[broken]["error"] and outcomes[broken]["used"]["memory_bytes"] < MEMORY
    again = {one["model"]: one["used"] for one in site.run("--jobs", "2")}
    assert again[greedy] is None and again[broken]["node"] in NODES
    words = [*site.words[:-1], "--no-cache"]
    done = member.run(*words)
    table = done.stdout.split("MODEL  NODE")[1].splitlines()
    (row,) = [line for line in table if line.startswith(f"{greedy} ")]
    assert "0:10:00" in row and " 2G" in row and "M (process)" in row
    assert "Less than half of the memory asked for was used" in done.stderr
    site.setting(time="10", memory="1020M")
    done = member.run(*words)
    said = f"More than 90% of the memory asked for was used by container {greedy}: should"
    assert said in done.stderr
    # The same of what runs on this machine, of which nothing was asked.
    here = site.run("--no-cache", "--jobs", "2", "--executor", "local")
    used = {one["model"]: one["used"] for one in here}[greedy]
    assert MEMORY < used["memory_bytes"] < 2 * MEMORY and used["node"] == os.uname().nodename
    assert used["asked_bytes"] is None and used["waited_seconds"] is None


def test_what_a_job_took_does_not_leave_the_site(site: Site) -> None:
    member = site.hospital.member
    member.json("key", "create", "--name", "hospital")
    (outcome,) = site.run("--no-cache")
    used = outcome["used"]
    member.does("result", "submit", "--all", "-b", "1", "-d", site.uid, "-y")
    administrator = direct(site.hospital.consortium, "administrator", admin=True)
    (result,) = administrator.pages("/results/")
    signed = base64.b64decode(said_of(result)[STATEMENT]["payload"]).decode()
    assert "predicateType" in signed and "seconds" in signed
    for said in (json.dumps(result), signed):
        for name, value in used.items():
            assert name == "seconds" or name not in said
            # A statement has the same word for what ran the steps.
            is_of_all = name == "memory_of" or value is None
            assert is_of_all or f": {json.dumps(value)}" not in said


def test_jobs_read_copies_on_their_node_that_were_made_once(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    local = {one["model"]: one["results"] for one in site.run("--executor", "local")}
    near = tmp_path / "near"
    site.setting(node_folder="$NEAR/copies", setup=[f"export NEAR={near}"])
    gates = [site.gated(own_consortium, f"gated-{number}") for number in range(2)]
    os.umask(0o022)
    with site.running() as client:
        for gate in gates:
            gate.is_reached()
        made = copies(near / "copies")
        # What each of them reads: its mounts say where that is.
        tasks = [
            process
            for worker in site.slurm.processes("--element")
            for process in worker.children(recursive=True)
            if "main.py" in " ".join(command_of(process))
        ]
        mounts = [Path(f"/proc/{one.pid}/mountinfo").read_text() for one in tasks]
        read = [{copy for copy in made if _on_its_disk(copy) in text} for text in mounts]
        for path in near.rglob("*"):
            if not path.is_symlink():
                assert path.stat().st_mode & 0o077 == 0, path
        (run,) = (site.shared / "runs").iterdir()
        assert json.loads((run / "run.json").read_text())["node_folder"] == "$NEAR/copies"
        for gate in gates:
            gate.open()
        said, told = client.communicate(timeout=200)
    assert len(tasks) == 2 and all(read), mounts
    assert not [text for text in mounts if _on_its_disk(site.shared / "content") in text]
    outcomes = {one["model"]: one for one in json.loads(said)}
    assert {one["error"] for one in outcomes.values()} == {None}, told
    before = {copy: copy.stat().st_ino for copy in copies(near / "copies")}
    assert before.keys() >= set(made)
    again = {one["model"]: one["results"] for one in site.run("--no-cache")}
    assert {copy: copy.stat().st_ino for copy in before} == before
    assert again == {one: outcomes[one]["results"] for one in again}
    assert all(again[model] == results for model, results in local.items())
    incoming = near / "copies" / f"medperf-copies-{os.getuid()}" / "incoming"
    assert list(incoming.iterdir()) == [] and site.elements() == []


def test_without_room_on_the_node_the_shared_folder_is_read(
    own_consortium: Consortium, site: Site, small_disk: Path
) -> None:
    # As if others had filled the disk but for its last tenth.
    (small_disk / "others").write_bytes(bytes(shutil.disk_usage(small_disk).total * 9 // 10))
    site.setting(node_folder=str(small_disk))
    gate = site.gated(own_consortium)
    with site.running() as client:
        gate.is_reached()
        (log,) = [one for one in site.shared.glob("runs/*/*.log") if one.stat().st_size]
        assert "is read where it lies" in log.read_text()
        assert "No space left on device" in log.read_text()
        gate.open()
        said, told = client.communicate(timeout=200)
    assert {one["error"] for one in json.loads(said)} == {None}, told
    assert copies(small_disk) == []


def test_what_a_node_finds_changed_is_told_and_not_run(
    own_consortium: Consortium, site: Site, tmp_path: Path
) -> None:
    # One has copied what the others read.
    site.run("--no-cache")
    changed = 0
    for file in (site.shared / "content").rglob("*.csv"):
        file.write_text(file.read_text() + "\n")
        changed += 1
    assert changed
    site.setting(node_folder=str(tmp_path / "near"))
    (outcome,) = site.run("--no-cache")
    assert "by now, and was" in outcome["error"] and "/content/" in outcome["error"]
    assert outcome["result"] is None


def test_content_that_is_old_goes_when_a_run_ends_but_not_what_a_job_reads(
    own_consortium: Consortium, site: Site
) -> None:
    gate, member = site.gated(own_consortium), site.hospital.member
    content = site.shared / "content"
    with site.running() as client:
        gate.is_reached()
        client.kill()
    label = f"container {gate.model} "
    (element,) = [one for one in site.elements() if label in (one / "element.json").read_text()]
    named = {
        found
        for work in element.glob("*/work.json")
        for found in Work.read(work.read_text()).reads
        if found.is_relative_to(content)
    }
    assert len(named) > 3 and all(path.exists() for path in named)
    stranger = content / "blobs" / "ab" / ("ab" * 32)
    stranger.parent.mkdir(exist_ok=True, parents=True)
    stranger.write_text("of a model that nobody runs any more")
    for copy in (*named, stranger):
        os.utime(copy, (0, 0))
    # Another run ends.
    words = ("-b", "1", "-d", site.uid, "-m", "2", "--no-cache")
    member.does("result", "create", *words)
    assert not stranger.exists() and all(path.exists() for path in named)
    gate.open()
    assert {one["error"] for one in site.run()} == {None} and gate.times == 1


def _on_its_disk(path: Path) -> str:
    """A path as the kernel tells it of mounts: from the root of its file system."""
    mount = next(one for one in path.parents if one.is_mount())
    return str(Path("/", path.relative_to(mount)))
