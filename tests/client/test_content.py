"""What jobs read, by digest: on the folder that nodes share, and on a node's own disk."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medperf_cache import Storage, tree_digest
from medperf_cache.digests import file_digest, stored
from medperf_client.containers.job import Job, Limits
from medperf_client.containers.library import Container, Input
from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.spec import PROCESS, ContainerSpec, Task, Volume
from medperf_client.errors import UsageError, WrongHash
from medperf_client.execution.plan import Plan
from medperf_client.execution.work import Work
from medperf_client.executors.content import Content
from medperf_client.executors.nodes import NodeCopies, node_copies
from medperf_client.executors.slurm import Slurm
from medperf_client.settings.executors import executor_settings
from tests.support.disks import full, small_disk
from tests.support.forks import IMPORT_ROOTS

__all__ = ["small_disk"]

DAYS = 24 * 3600.0
TASK = Task(
    "infer",
    command=("python3", "main.py"),
    inputs=(Volume("data_path", "/mlcommons/volumes/data", "directory"),),
    outputs=(Volume("output_path", "/mlcommons/volumes/predictions", "directory"),),
)


def executor_of(folder: Path, **more: str) -> Slurm:
    """A queue whose nodes share a folder."""
    settings = {"kind": "slurm", "shared_folder": str(folder / "shared"), **more}
    return Slurm(executor_settings(settings, "this profile"))


def plan_of(folder: Path, scan: str = "1") -> Plan:
    """A model on a folder of data, planned."""
    storage, data = Storage(folder / "cache"), folder / f"data-{scan}"
    for path in (folder / "code", data):
        path.mkdir(exist_ok=True)
    (folder / "code" / "main.py").write_text("")
    for number in range(20):
        (data / f"scan{number}").write_text(scan)
    code = storage.trees.copy(folder / "code")
    spec = ContainerSpec(PROCESS, "code", {"infer": TASK}, "container_config.yaml")
    container = Container("model", 4, spec, archive=storage.trees.path(code))
    plan = Plan(storage, lambda _: ProcessRunner(True), folder / "logs", Limits(seconds=60))
    plan.take("infer", container, {"data_path": Input(data, tree_digest(data))})
    return plan


def aged(root: Path, days: float) -> None:
    """Have what lies below a folder by digest be used so many days ago."""
    for copy in copies(root):
        os.utime(copy, (time.time() - days * DAYS,) * 2)


def copies(root: Path) -> list[Path]:
    """What lies below a folder by digest."""
    return [*stored(root / "blobs"), *stored(root / "trees")]


def test_content_goes_once_no_element_names_it_and_nobody_used_it_for_a_week(
    tmp_path: Path,
) -> None:
    executor, content = executor_of(tmp_path), tmp_path / "shared" / "content"
    first, second = plan_of(tmp_path), plan_of(tmp_path, "2")
    executor.prepare(first)
    before = copies(content)
    # The code, and the data.
    assert len(before) == 2
    aged(content, 8)
    executor.sweep(())
    assert copies(content) == before, "a job that waits reads it"
    executor.forget(first.name)
    aged(content, 6)
    executor.sweep(())
    assert copies(content) == before, "somebody may need it again"
    # What is asked for again is used now, also where it is there already.
    aged(content, 8)
    executor.prepare(second)
    executor.forget(second.name)
    executor.sweep(())
    (gone,) = set(before) - set(copies(content))
    assert gone.parent.parent.name == "trees" and len(copies(content)) == 2
    assert list((tmp_path / "shared" / "incoming").iterdir()) == []


def test_content_stays_where_it_is_not_known_what_is_named(tmp_path: Path) -> None:
    executor, content = executor_of(tmp_path), tmp_path / "shared" / "content"
    plan = plan_of(tmp_path)
    executor.prepare(plan)
    (work,) = executor.place(plan.name).glob("*/work.json")
    text = work.read_text()
    work.write_text("{")
    aged(content, 8)
    executor.sweep(())
    assert len(copies(content)) == 2
    work.write_text(text)
    executor.forget(plan.name)
    executor.sweep(())
    assert copies(content) == []


SWEEPS = """
import sys
from pathlib import Path
from medperf_client.executors.slurm import Slurm
from medperf_client.settings.executors import executor_settings
settings = {"kind": "slurm", "shared_folder": sys.argv[1]}
executor = Slurm(executor_settings(settings, "this profile"))
print("begun", flush=True)
while True:
    executor.sweep_content(seconds=0)
"""


def test_a_client_that_prepares_finds_all_that_it_names_whoever_else_deletes(
    tmp_path: Path,
) -> None:
    executor, plan = executor_of(tmp_path), plan_of(tmp_path)
    executor.prepare(plan)
    words = [sys.executable, "-c", SWEEPS, str(executor.folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    made = set()
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as sweeper:
        try:
            assert sweeper.stdout is not None and sweeper.stdout.readline() == b"begun\n"
            rounds, reads, patience = 0, list[Path](), time.monotonic() + 60
            # Until the other one was at it, too.
            while rounds < 100 or len(made) <= len(reads):
                assert time.monotonic() < patience
                rounds += 1
                executor.forget(plan.name)
                executor.prepare(plan)
                (work,) = executor.place(plan.name).glob("*/work.json")
                reads = Work.read(work.read_text()).reads
                assert len(reads) == 2 and all(path.is_dir() for path in reads)
                made |= {path.stat().st_ino for path in reads}
            assert sweeper.poll() is None
        finally:
            sweeper.kill()


class Node:
    """A shared folder with content, and copies of it on a disk of a node's own."""

    def __init__(self, folder: Path, disk: Path) -> None:
        self.folder, self.root = folder, folder / "content"
        self.content = Content(self.root, folder / "incoming")
        (disk / "copies").mkdir()
        self.area = disk / "copies"
        self.copies = NodeCopies(self.root, self.area)

    def work(self, *texts: str | bytes) -> Work:
        """A task that reads files with these texts."""
        mounts = {}
        for number, text in enumerate(texts):
            file = self.folder / f"file{number}"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            mounts[f"v{number}"] = self.content.at_hand(Input(file, file_digest(file)))
        volumes = tuple(Volume(name, f"/{name}", "file") for name in mounts)
        task = Task("infer", inputs=volumes)
        return Work(Job.of("process", task, "", mounts, {}, self.folder / "log"), ())

    @property
    def kept(self) -> list[Path]:
        """The copies that there are."""
        return copies(self.area / "content")


def test_copies_on_a_node_are_made_once_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    os.umask(0o022)
    node = Node(tmp_path, tmp_path)
    work = node.work("a", "b")
    data = tmp_path / "folder"
    data.mkdir()
    (data / "scan").write_text("c")
    tree = node.content.at_hand(Input(data, tree_digest(data)))
    work = replace(work, job=replace(work.job, archive=tree))
    with node.copies.lent(work) as near:
        assert near.job.archive is not None and (near.job.archive / "scan").read_text() == "c"
        assert [path.read_text() for path in near.reads[1:]] == ["a", "b"]
        assert all(path.is_relative_to(node.area) for path in near.reads)
        first = [path.stat().st_ino for path in near.reads]
    for path in (node.area, *node.area.rglob("*")):
        assert path == node.area or path.stat().st_mode & 0o077 == 0, path
    with node.copies.lent(work) as near:
        assert [path.stat().st_ino for path in near.reads] == first
    assert list((node.area / "incoming").iterdir()) == []
    # What lies elsewhere is read there.
    file = tmp_path / "file0"
    mounts = tuple(replace(one, path=file) for one in work.job.mounts)
    with node.copies.lent(replace(work, job=replace(work.job, mounts=mounts))) as near:
        assert near.job.mounts == mounts


def test_what_is_not_what_its_digest_says_is_not_copied(tmp_path: Path) -> None:
    node = Node(tmp_path, tmp_path)
    work = node.work("a")
    (path,) = work.reads
    path.write_text("b")
    with pytest.raises(WrongHash, match=str(path)), node.copies.lent(work):
        pass
    assert node.kept == []


def test_of_a_folder_in_part_nothing_else_is_copied(tmp_path: Path) -> None:
    content, data = Content(tmp_path / "content", tmp_path / "incoming"), tmp_path / "data"
    for path in ("a/x", "b/x", "c", "a/b/y"):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_text(path)
    names = ("a", "c")
    (digest,) = Storage(tmp_path / "cache").fingerprints.parts(data, [names])
    copy = content.at_hand(Input(data, digest, names=names))
    assert tree_digest(copy) == digest and copy != content.place(Input(data, tree_digest(data)))
    # What is called so further down is part of it.
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == [
        *("a", "a/b", "a/b/y", "a/x", "c")
    ]
    (data / "c").write_text("C")
    with pytest.raises(WrongHash):
        Content(tmp_path / "other", tmp_path / "incoming").at_hand(Input(data, digest, names=names))


def test_a_copy_of_which_somebody_deleted_a_part_is_made_anew(tmp_path: Path) -> None:
    node, data = Node(tmp_path, tmp_path), tmp_path / "folder"
    data.mkdir()
    for name in ("one", "two"):
        (data / name).write_text(name)
    tree = node.content.at_hand(Input(data, tree_digest(data)))
    work = node.work("a")
    work = replace(work, job=replace(work.job, archive=tree))
    with node.copies.lent(work) as first:
        assert first.job.archive is not None and first.job.archive != tree
        (first.job.archive / "one").unlink()
        # The job that is at it has it no more, but nobody else begins with it.
        with node.copies.lent(work) as second:
            assert second.job.archive == tree and second.reads[1:] == first.reads[1:]
    with node.copies.lent(work) as third:
        assert third.reads == first.reads
        assert (first.job.archive / "one").read_text() == "one"
    # As who is killed in the midst of it leaves it.
    (left,) = node.area.glob("content/trees/??/*.extent")
    left.unlink()
    (first.job.archive / "one").write_text("eno")
    with node.copies.lent(work) as fourth:
        assert fourth.reads == first.reads
        assert (first.job.archive / "one").read_text() == "one"


def test_what_a_killed_process_left_of_a_copy_is_deleted(tmp_path: Path) -> None:
    node = Node(tmp_path, tmp_path)
    with node.copies.lent(node.work("a")):
        pass
    (copy,) = node.kept
    copy.rename(copy.with_name("." + copy.name[1:]))
    node.copies.sweep()
    assert not list(node.area.glob("content/blobs/??/.*"))


def test_what_no_job_uses_makes_room_for_what_is_needed(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(tmp_path, small_disk)
    third = os.urandom(1300 << 10)
    works = [node.work(bytes([number]) + third) for number in range(4)]
    with node.copies.lent(works[0]) as first:
        with node.copies.lent(works[1]):
            pass
        with node.copies.lent(works[2]) as near:
            # A tenth of the disk stays free.
            assert set(node.kept) == {*first.reads, *near.reads}
        with node.copies.lent(works[1]), node.copies.lent(works[3]) as far:
            # Both copies are in use.
            assert far.reads == works[3].reads
        assert "No space left on device" in capsys.readouterr().err
        assert set(first.reads) < set(node.kept)
    # Also where nothing at all is left to begin with.
    with full(small_disk), node.copies.lent(works[3]) as near:
        assert near.reads == node.kept
    whole = node.work(os.urandom(5 << 20))
    kept = node.kept
    with node.copies.lent(whole) as far:
        assert far.reads == whole.reads and node.kept == kept
    assert list((node.area / "incoming").iterdir()) == []


def test_what_was_not_used_for_a_week_goes_from_a_node_unless_a_job_uses_it(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, tmp_path)
    with node.copies.lent(node.work("a")) as used:
        with node.copies.lent(node.work("b")):
            pass
        with node.copies.lent(node.work("c")) as young:
            (fresh,) = young.reads
        aged(node.area / "content", 8)
        os.utime(fresh)
        node.copies.sweep()
        assert set(node.kept) == {*used.reads, fresh}


def test_jobs_on_one_node_copy_one_after_the_other_and_wait_for_no_copy_that_is_there(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, tmp_path)
    there, work = node.work("a"), node.work("b")
    with node.copies.lent(there):
        pass
    with open(node.area / "lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with node.copies.lent(there) as near:
            assert near.reads != there.reads
        code = "\n".join(
            (
                "import sys; from pathlib import Path",
                "from medperf_client.execution.work import Work",
                "from medperf_client.executors.nodes import NodeCopies",
                "root, area, text = sys.argv[1:]",
                "with NodeCopies(Path(root), Path(area)).lent(Work.read(text)) as near:",
                "    print(near.reads[0].stat().st_ino)",
            )
        )
        words = [sys.executable, "-c", code, str(node.root), str(node.area), work.text()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
        jobs = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
        time.sleep(1)
        assert all(job.poll() is None for job in jobs) and len(node.kept) == 1
    found = {job.communicate(timeout=60)[0] for job in jobs}
    (copy,) = [one for one in node.kept if one.read_text() == "b"]
    assert found == {b"%d\n" % copy.stat().st_ino}


def nowhere(folder: Path) -> str:
    return "$MEDPERF_NOWHERE/copies"


def relative(folder: Path) -> str:
    os.environ["MEDPERF_SOMEWHERE"] = "some/where"
    return "$MEDPERF_SOMEWHERE"


def in_a_file(folder: Path) -> str:
    (folder / "file").touch()
    return str(folder / "file" / "copies")


def of_others(folder: Path) -> str:
    (folder / f"medperf-copies-{os.getuid()}").mkdir(mode=0o755)
    return str(folder)


@pytest.mark.parametrize("where", [nowhere, relative, in_a_file, of_others])
def test_where_there_is_no_such_folder_a_line_says_why(
    tmp_path: Path, where: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = where(tmp_path)
    assert node_copies(tmp_path / "content", folder) is None
    assert f"nothing is copied to executor.node_folder, {folder}: " in capsys.readouterr().err


def test_a_folder_on_the_node_is_an_absolute_path_or_a_variable(tmp_path: Path) -> None:
    for value in ("/local", "$TMPDIR/copies"):
        executor_of(tmp_path, node_folder=value)
    for wrong in ("here", "", 7):
        with pytest.raises(UsageError, match=r"executor\.node_folder expects an absolute path"):
            executor_of(tmp_path, node_folder=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("time_asked", "seconds"),
    [
        *(("90", 5400), ("90:30", 5430), ("12:00:00", 43200), ("2-12", 216000)),
        *(("1-02:30", 95400), ("1-02:30:05", 95405), ("0", None), ("UNLIMITED", None)),
        *(("1:2:3:4", None), ("now", None)),
    ],
)
def test_a_time_is_read_as_sbatch_reads_it(
    tmp_path: Path, time_asked: str, seconds: int | None
) -> None:
    assert executor_of(tmp_path, time=time_asked).asked() == (seconds, None)


@pytest.mark.parametrize(
    ("memory", "size"),
    [("100", 100 << 20), ("32G", 32 << 30), ("5MB", 5 << 20), ("7k", 7 << 10), ("0", None)],
)
def test_an_amount_of_memory_is_read_as_sbatch_reads_it(
    tmp_path: Path, memory: str, size: int | None
) -> None:
    assert executor_of(tmp_path, memory=memory).asked() == (None, size)
