"""A job reads its image and its data from copies on the node's own disk, on what clusters have."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medperf_cache import tree_digest
from medperf_cache.digests import entries, file_digest, stored
from medperf_client.containers.job import Mount
from medperf_client.containers.library import Input
from medperf_client.execution.work import OUTPUTS, Work
from medperf_client.executors.content import Content
from medperf_client.executors.elements import Element, Run
from medperf_client.executors.records import describe, recorded, used
from tests.support.forks import IMPORT_ROOTS
from tests.support.sandbox import OUTPUT, VOLUMES, Sandbox

CODE = f"""{VOLUMES}
text = (volumes / "input" / "scan.txt").read_text()
(volumes / "output" / "made").write_text(text * 2)
"""
NAME = "ef" * 32


def prepared(sandbox: Sandbox, shared: Path, key: str) -> Work:
    """A step whose image and data lie on the shared folder, by digest."""
    content = Content(shared / "content", shared / "incoming")

    def at_hand(path: Path) -> Path:
        digest = tree_digest(path) if path.is_dir() else file_digest(path)
        return content.at_hand(Input(path, digest))

    shared.mkdir(exist_ok=True, mode=0o700)
    place = shared / "elements" / NAME / key
    job = sandbox.job(CODE)
    assert job.archive is not None
    data = at_hand(sandbox.folder / "input")
    mounts = (Mount(data, "/input", True), Mount(place / OUTPUTS / OUTPUT.name, "/output", False))
    job = replace(job, archive=at_hand(job.archive), mounts=mounts, log=place / "log", scratch=None)
    return Work(job, (OUTPUT,), key=key)


def sent(shared: Path, work: Work, ticket: str, node_folder: Path) -> Path:
    """A run of one element with that step; its folder."""
    folder = shared / "elements" / NAME
    (folder / work.key).mkdir(parents=True)
    describe(work, folder / work.key)
    Element(NAME, ticket, "model", "", 0, (work.key,)).write(folder)
    run = Run(((NAME, ticket),), (1,), 0, 600, 1 << 30, str(node_folder))
    (shared / "runs" / run.name).mkdir(parents=True)
    (shared / "runs" / run.name / "run.json").write_text(run.text)
    return shared / "runs" / run.name


@pytest.mark.parametrize("anywhere", ["apptainer", "process"], indirect=True)
def test_a_job_reads_the_copies_of_those_before_it(anywhere: Sandbox) -> None:
    shared, near = anywhere.folder / "shared", anywhere.folder / "near"
    made = []
    for number in range(2):
        work = prepared(anywhere, shared, f"{number:064x}")
        run = sent(shared, work, f"ticket {number}", near)
        done = subprocess.run(
            [*(sys.executable, "-m", "medperf_client.executors.worker", "--element"), run, "0"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        place = shared / "elements" / NAME / work.key
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert (place / OUTPUTS / OUTPUT.name / "made").read_text() == "4242"
        record, took = recorded(place, work.key), used(place)
        assert record is not None and took is not None
        assert (took.asked_seconds, took.asked_bytes) == (600, 1 << 30)
        made.append(record["outputs"])
        # Whoever reads these from now on reads nothing.
        for path in work.reads:
            for file in _files(path):
                file.write_bytes(b"")
    assert made[0] == made[1]
    content = near / f"medperf-copies-{os.getuid()}" / "content"
    copies = [*stored(content / "blobs"), *stored(content / "trees")]
    assert {one.name for one in copies} == {one.name for one in work.reads}
    assert json.loads((run / "run.json").read_text())["node_folder"] == str(near)


def _files(path: Path) -> list[Path]:
    """A file, or those in a folder."""
    if path.is_file():
        return [path]
    return [Path(one.path) for _, one in entries(path) if one.is_file(follow_symlinks=False)]
