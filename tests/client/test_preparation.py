"""Preparation of a member's own data: in stages it goes on, and what it gives stays here.

MEDPERF_TEST_KILLS and MEDPERF_TEST_FILES say how often it is killed, and of how many files.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.blobs import BlobStore
from medperf_cache.bundle import read_head
from medperf_cache.errors import InUse
from medperf_cache.trees import TreeStore
from medperf_client.airgap.bundles import export_bundle
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Library
from medperf_client.datasets.preparation import Preparation
from medperf_client.datasets.records import Record
from medperf_client.errors import ContainerFailed, InvalidContainer, MedPerfError, UsageError
from medperf_client.execution.steps import Steps
from medperf_client.execution.workflow import evaluation
from medperf_client.settings.config import Home
from medperf_client.site import Site
from tests.cache.processes import start
from tests.support.forks import IMPORT_ROOTS, ROOT
from tests.support.keys import make_keys

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "4"))
FILES = int(os.environ.get("MEDPERF_TEST_FILES", "300"))
VOLUMES = "/mlcommons/volumes"
REPORT = f"report_file: {{mount_path: {VOLUMES}/report/report.yaml, type: file}}"
PREPARATOR = f"""
container_type: Process
image: project
tasks:
  prepare:
    run_args: {{command: python3 main.py prepare}}
    input_volumes:
      data_path: {{mount_path: {VOLUMES}/raw, type: directory}}
      labels_path: {{mount_path: {VOLUMES}/raw_labels, type: directory}}
    output_volumes:
      output_path: {{mount_path: {VOLUMES}/data, type: directory}}
      output_labels_path: {{mount_path: {VOLUMES}/labels, type: directory}}
      {REPORT}
  sanity_check:
    run_args: {{command: python3 main.py sanity_check}}
    input_volumes:
      data_path: {{mount_path: {VOLUMES}/data, type: directory}}
  statistics:
    run_args: {{command: python3 main.py statistics}}
    input_volumes:
      data_path: {{mount_path: {VOLUMES}/data, type: directory}}
    output_volumes:
      output_path: {{mount_path: {VOLUMES}/statistics.yaml, type: file}}
"""
# Each scan is a stage. Between two of them it waits to be told to go on, by a file that is there.
PREPARE = """
import json, os, pathlib, sys, time
volumes = pathlib.Path(os.environ["MEDPERF_VOLUMES"], "mlcommons/volumes")
if sys.argv[1] == "statistics":
    count = len(list((volumes / "data").iterdir()))
    (volumes / "statistics.yaml").write_text(f"scans: {count}\\n")
if sys.argv[1] == "sanity_check":
    if any("?" in path.read_text() for path in (volumes / "data").iterdir()):
        sys.exit("a scan has to be looked at")
if sys.argv[1] != "prepare":
    sys.exit()
report = volumes / "report/report.yaml"
def cases():
    text = report.read_text() if report.exists() else ""
    return json.loads(text or '{"status": {}}')["status"]
print("found", sorted(cases()), flush=True)
for scan in sorted((volumes / "raw").iterdir()):
    done = cases()
    if scan.name in done:
        continue
    if done:
        while pathlib.Path(GATE, "closed").exists():
            time.sleep(0.01)
        if pathlib.Path(GATE, "broken").exists():
            sys.exit("the mill broke")
    (volumes / "data" / scan.name).write_text(scan.read_text().upper())
    (volumes / "labels" / scan.name).write_text((volumes / "raw_labels" / scan.name).read_text())
    if report.exists():
        report.write_text(json.dumps({"status": {**done, scan.name: 1}}))
"""
# Of many scans: those that are there are not written again.
MANY = """
status = {}
for number, scan in enumerate(sorted((volumes / "raw").iterdir())):
    for place, text in (("data", scan.read_text().upper()), ("labels", "")):
        made = volumes / place / scan.name
        if not made.exists():
            partial = volumes / place / f".{scan.name}"
            partial.write_text(text)
            partial.rename(made)
    status[scan.name] = 1
    if number % 1000 == 0:
        report.write_text(json.dumps({"status": status}))
report.write_text(json.dumps({"status": status}))
"""
MODEL = f"""
container_type: Process
image: project
tasks:
  infer:
    run_args: {{command: python3 main.py}}
    input_volumes:
      data_path: {{mount_path: {VOLUMES}/data, type: directory}}
    output_volumes:
      output_path: {{mount_path: {VOLUMES}/predictions, type: directory}}
"""
EVALUATOR = f"""
container_type: Process
image: project
tasks:
  evaluate:
    run_args: {{command: python3 main.py}}
    input_volumes:
      predictions: {{mount_path: {VOLUMES}/predictions, type: directory}}
      labels: {{mount_path: {VOLUMES}/labels, type: directory}}
    output_volumes:
      output_path: {{mount_path: {VOLUMES}/results.yaml, type: file}}
"""
EVALUATE = """
import os, pathlib
volumes = pathlib.Path(os.environ["MEDPERF_VOLUMES"], "mlcommons/volumes")
same = [(volumes / "labels" / p.name).read_text() == p.read_text()
        for p in (volumes / "predictions").iterdir()]
(volumes / "results.yaml").write_text(f"accuracy: {sum(same) / len(same)}\\n")
"""
INFER = """
import os, pathlib
volumes = pathlib.Path(os.environ["MEDPERF_VOLUMES"], "mlcommons/volumes")
for scan in (volumes / "data").iterdir():
    (volumes / "predictions" / scan.name).write_text(scan.read_text() + NOISE)
"""


class Hospital:
    """A site with raw data, a preparator that takes its time, and models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = folder / "gate"
        self.raw, self.labels = folder / "raw", folder / "raw_labels"
        self.watched: list[tuple[str, str]] = []
        self.told: list[dict[str, Any]] = []

    def set_up(self) -> None:
        """Make its folders."""
        for path in (self.gate, self.raw, self.labels, self.folder / "home"):
            path.mkdir()
        (self.folder / "home" / "config.yaml").write_text(
            "active_profile: default\nprofiles:\n  default:\n"
            "    server_url: http://127.0.0.1:1\n    allow_process: true\n"
        )
        for scan in ("a", "b", "c"):
            (self.raw / scan).write_text(f"patient {scan}")
            (self.labels / scan).write_text(f"PATIENT {scan.upper()}")
        self.container("preparator", PREPARATOR, f"GATE = {str(self.gate)!r}\n{PREPARE}")
        self.container("evaluator", EVALUATOR, EVALUATE)

    def container(self, name: str, config: str, program: str) -> None:
        """Make a container."""
        project = self.folder / name / "project"
        project.mkdir(parents=True)
        (project / "main.py").write_text(program)
        (self.folder / name / "container_config.yaml").write_text(config)

    def preparator_in_one_go(self, and_then: str = "") -> None:
        """Make the preparator one that reports nothing, and is done at once."""
        shutil.rmtree(self.folder / "preparator")
        program = f"GATE = {str(self.gate)!r}\n{PREPARE}{and_then}\n"
        self.container("preparator", PREPARATOR.replace(REPORT, ""), program)

    def model(self, name: str, noise: str = "") -> None:
        """Make a model whose predictions have this noise."""
        self.container(name, MODEL, f"NOISE = {noise!r}\n{INFER}")

    @property
    def site(self) -> Site:
        """The site as a new process opens it."""
        home = self.folder / "home"
        return Site(Home(home, home / "cache"), offline=True)

    def steps(self, site: Site, is_private: bool = True) -> Steps:
        """Steps on its data."""
        return Steps(
            site.storage,
            site.platforms.runner_for,
            self.folder / "logs",
            Limits(seconds=60 + FILES // 100),
            watch=lambda step, moment: self.watched.append((step, moment)),
            private=site.private if is_private else None,
        )

    def local(self, site: Site, name: str) -> Container:
        """One of its containers."""
        return Library(site.storage, site.fetcher).local(self.folder / name)

    @property
    def record(self) -> Record:
        """Its dataset, registered as the first in the queue."""
        datasets = self.site.datasets
        found = datasets.find("q1")
        return found or datasets.add(
            "scans",
            preparator=1,
            raw={"data_path": str(self.raw), "labels_path": str(self.labels)},
            as_prepared=False,
            input_data_hash="ab" * 32,
            entry="q1",
        )

    def preparation(self, site: Site) -> Preparation:
        """What prepares it."""
        return Preparation(site.storage, site.datasets, lambda s, last: self.told.append(s))

    def prepare(self) -> Record:
        """Prepare the dataset, or go on with it."""
        site = self.site
        steps, preparator = self.steps(site), self.local(site, "preparator")
        with site.datasets.alone(self.record) as record:
            return self.preparation(site).run(record, preparator, steps)

    def whole(self) -> Record:
        """Prepare it, as often as its container wants, and have it be final."""
        self.prepare()
        return self.taken_over()

    def preparator_of_many(self) -> None:
        """Make the preparator one that writes its report only now and then."""
        shutil.rmtree(self.folder / "preparator")
        program = f"GATE = {str(self.gate)!r}\n{PREPARE}"
        begin = program.index("for scan in sorted((volumes")
        self.container("preparator", PREPARATOR, program[:begin] + MANY)

    def taken_over(self) -> Record:
        """Have it be final."""
        site = self.site
        preparation = self.preparation(site)
        with site.datasets.alone(self.record) as record:
            return preparation.take_over(record, preparation.hashes(record)[1])

    @property
    def log(self) -> str:
        """What `prepare` printed last."""
        return (self.folder / "logs" / "prepare.log").read_text()

    @property
    def private(self) -> Path:
        """Where what is private lies."""
        return self.site.datasets_folder / ".private"

    @property
    def done(self) -> list[str]:
        """The scans that are done, as the report says at this moment."""
        site = self.site
        return sorted(self.preparation(site).statuses(self.record))


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """A hospital with data to prepare."""
    hospital = Hospital(tmp_path)
    hospital.set_up()
    return hospital


SCRIPT = """
import sys
from pathlib import Path
from tests.client.test_preparation import Hospital
Hospital(Path(sys.argv[1])).prepare()
"""


def in_tree() -> dict[str, str]:
    """The environment of a process that runs this tree's code."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*IMPORT_ROOTS, str(ROOT)])}


@pytest.fixture
def preparing(hospital: Hospital) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that prepares the data, held up once the first scan is done."""
    (hospital.gate / "closed").touch()
    command = [sys.executable, "-c", SCRIPT, str(hospital.folder)]
    with subprocess.Popen(command, env=in_tree(), stderr=subprocess.PIPE) as process:
        patience = time.monotonic() + 60
        while hospital.done != ["a"]:
            assert process.poll() is None and time.monotonic() < patience
            time.sleep(0.01)
        yield process
        process.kill()


def texts(folder: Path) -> dict[str, str]:
    """What the files of a folder hold."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_preparator_that_was_killed_finds_what_it_wrote(
    hospital: Hospital, preparing: "subprocess.Popen[bytes]"
) -> None:
    with pytest.raises(InUse, match="at work on dataset q1"):
        hospital.prepare()
    preparing.kill()
    preparing.wait()
    # What looks after the cache leaves it alone.
    site = hospital.site
    site.storage.gc(0)
    site.private.sweep()
    assert hospital.done == ["a"]
    # Not before: what the client had started may take a moment to end, and would go on.
    (hospital.gate / "closed").unlink()

    record = hospital.prepare()

    assert hospital.log == "found ['a']\n"
    assert texts(record.folder / "data") == {s: f"PATIENT {s.upper()}" for s in "abc"}
    assert hospital.done == ["a", "b", "c"]
    assert record.statistics.read_text() == "scans: 3\n"
    assert hospital.told[-1] == {"execution_status": "finished", "progress": {"Stage 1": "100.0%"}}
    assert not list((hospital.private / "incoming").iterdir())


def test_statistics_that_are_not_in_utf_8_are_refused_by_name(hospital: Hospital) -> None:
    program = PREPARE.replace('{count}\\n")', '{count}\\n", encoding="utf-16")')
    assert program != PREPARE
    shutil.rmtree(hospital.folder / "preparator")
    hospital.container("preparator", PREPARATOR, f"GATE = {str(hospital.gate)!r}\n{program}")
    with pytest.raises(InvalidContainer, match="what statistics wrote is not text in UTF-8"):
        hospital.prepare()


def test_a_preparator_that_failed_goes_on_too(hospital: Hospital) -> None:
    (hospital.gate / "broken").touch()
    for found in ("[]", "['a']"):
        with pytest.raises(ContainerFailed, match="the mill broke"):
            hospital.prepare()
        assert f"found {found}" in hospital.log
    assert hospital.told[-1] == {"execution_status": "failed", "progress": {"Stage 1": "100.0%"}}
    (hospital.gate / "broken").unlink()
    assert hospital.prepare().is_ready and "found ['a']" in hospital.log


def test_a_check_that_fails_says_what_is_left_to_do_and_a_person_may_do_it(
    hospital: Hospital,
) -> None:
    (hospital.raw / "b").write_text("patient ?")
    with pytest.raises(MedPerfError, match="(?s)not ready yet.*a scan has to be") as caught:
        hospital.prepare()
    record = hospital.record
    assert str(record.places["report_file"]) in caught.value.hint and not record.is_ready
    with pytest.raises(UsageError, match="is not prepared"):
        hospital.preparation(hospital.site).inputs(record)
    (record.folder / "data" / "b").write_text("PATIENT B")
    assert hospital.prepare().is_ready and hospital.log == "found ['a', 'b', 'c']\n"


def test_what_is_final_moves_to_where_nothing_changes_and_is_seen_where_it_was(
    hospital: Hospital,
) -> None:
    place = hospital.prepare().folder / "data"
    inode = (place / "a").stat().st_ino
    record = hospital.taken_over()
    assert place.is_symlink() and not os.path.isabs(os.readlink(place))
    assert (place / "a").stat().st_ino == inode
    assert (place / "a").stat().st_mode & 0o222 == 0
    data = hospital.preparation(hospital.site).inputs(record)["data_path"]
    assert data.path.is_relative_to(hospital.private) and texts(data.path) == texts(place)
    assert hospital.taken_over() == record


def test_what_somebody_changed_after_it_was_registered_is_not_taken_over(
    hospital: Hospital,
) -> None:
    record = hospital.prepare()
    site = hospital.site
    preparation = hospital.preparation(site)
    registered = preparation.hashes(record)[1]
    (record.folder / "data" / "a").write_text("PATIENT Z")
    with pytest.raises(MedPerfError, match="are not those that were registered"):
        preparation.take_over(record, registered)
    assert not (record.folder / "data").is_symlink()


@pytest.mark.parametrize("done", range(8))
def test_a_crash_while_it_is_taken_over_loses_nothing(hospital: Hospital, done: int) -> None:
    before = texts(hospital.prepare().folder / "data")

    def crash() -> None:
        left = [done]

        def dying(owner: Any, name: str) -> None:
            whole = getattr(owner, name)

            def method(*given: Any, **more: Any) -> Any:
                if not left[0]:
                    os._exit(9)
                left[0] -= 1
                return whole(*given, **more)

            setattr(owner, name, staticmethod(method) if name == "settle" else method)

        for store in (TreeStore, BlobStore):
            dying(store, "settle")
            dying(store, "publish")
        dying(os, "replace")
        hospital.taken_over()

    process = start(crash)
    process.join(60)
    assert process.exitcode == 9
    # It may go on being prepared if it was not registered after all, too.
    if done % 2:
        hospital.prepare()
    record = hospital.taken_over()
    assert texts(record.folder / "data") == before and (record.folder / "data").is_symlink()
    private = hospital.site.private
    assert list(private.trees.verify()) == list(private.blobs.verify()) == []


def digest_of(folder: Path) -> str:
    """What a folder holds, as one number."""
    whole = sha256()
    for path in sorted(folder.iterdir()):
        whole.update(path.name.encode() + path.read_bytes())
    return whole.hexdigest()


def test_killed_at_any_moment_it_is_prepared_and_taken_over_in_the_end(hospital: Hospital) -> None:
    chance = random.Random(24)
    for number in range(FILES):
        (hospital.raw / f"{number:06}").write_text(f"patient {number}")
        (hospital.labels / f"{number:06}").write_text(f"PATIENT {number}")
    hospital.preparator_of_many()
    started = time.monotonic()
    hospital.whole()
    longest = time.monotonic() - started
    expected = digest_of(hospital.record.folder / "data")
    hit = 0
    for _ in range(KILLS):
        site = hospital.site
        site.datasets.remove(hospital.record, set)
        command = [sys.executable, "-c", SCRIPT.replace("prepare()", "whole()")]
        with subprocess.Popen([*command, str(hospital.folder)], env=in_tree()) as process:
            try:
                process.wait(chance.uniform(0, longest))
            except subprocess.TimeoutExpired:
                process.kill()
                hit += 1
        hospital.whole()
        assert digest_of(hospital.record.folder / "data") == expected
        assert (hospital.record.folder / "data").is_symlink()
    assert hit > 0
    private = hospital.site.private
    assert list(private.trees.verify()) == list(private.blobs.verify()) == []


def test_what_was_taken_over_in_vain_can_be_prepared_again(hospital: Hospital) -> None:
    hospital.prepare()
    hospital.taken_over()
    (hospital.raw / "d").write_text("patient d")
    (hospital.labels / "d").write_text("PATIENT D")
    record = hospital.prepare()
    assert hospital.log == "found ['a', 'b', 'c']\n"
    assert not (record.folder / "data").is_symlink() and len(texts(record.folder / "data")) == 4


def test_private_content_is_neither_collected_nor_carried(hospital: Hospital) -> None:
    hospital.prepare()
    private = {digest for _, digest in hospital.taken_over().content.values()}
    site = hospital.site
    shared = site.storage.blobs.add([b"for everybody"])
    key, _ = make_keys(hospital.folder / "key")

    head = export_bundle(site, hospital.folder / "all.bundle", sign_with=Path(key))
    assert read_head(hospital.folder / "all.bundle").manifest.content == head.manifest.content
    assert shared in head.manifest.content and not private & head.manifest.content
    assert private.isdisjoint(item.digest for item in site.storage.items())
    with open(hospital.folder / "all.bundle", "rb") as file:
        assert b"PATIENT" not in file.read()

    site.storage.gc(0)
    site.storage.gc(most_bytes=0)
    assert shared not in site.storage.blobs
    assert texts(hospital.record.folder / "data")["a"] == "PATIENT A"


def test_a_preparation_in_one_go_is_remembered_and_no_other_data_are_answered_with_it(
    hospital: Hospital,
) -> None:
    hospital.preparator_in_one_go()
    record = hospital.prepare()
    assert ("prepare", "ran") in hospital.watched and (record.folder / "data").is_symlink()
    hospital.watched.clear()
    assert hospital.prepare() == record
    assert {moment for _, moment in hospital.watched} == {"cached"}
    # What is shared is not answered from what is private.
    site = hospital.site
    steps = hospital.steps(site, is_private=False)
    offered = {
        "data_path": Library(site.storage, site.fetcher).input(hospital.raw),
        "labels_path": Library(site.storage, site.fetcher).input(hospital.labels),
    }
    given = {name: one for name, one in offered.items() if one}
    shared = steps.take("prepare", hospital.local(site, "preparator"), given)
    assert shared.ran and shared.outputs["output_path"].path.is_relative_to(site.storage.root)


def test_what_was_prepared_in_one_go_of_data_that_changed_meanwhile_is_void(
    hospital: Hospital,
) -> None:
    hospital.preparator_in_one_go(
        f"pathlib.Path({str(hospital.raw)!r}, 'a').write_text('patient z')"
    )
    with pytest.raises(MedPerfError, match="changed while a container read it"):
        hospital.prepare()
    assert not hospital.record.is_ready and not (hospital.record.folder / "data").exists()


def test_data_are_prepared_once_and_many_models_evaluated_on_them(hospital: Hospital) -> None:
    hospital.prepare()
    site = hospital.site
    inputs = hospital.preparation(site).inputs(hospital.record)
    results = {}
    for name, noise in (("good", ""), ("bad", "?")):
        hospital.model(name, noise)
        steps, model = hospital.steps(site), hospital.local(site, name)
        evaluator = hospital.local(site, "evaluator")
        data, labels = inputs["data_path"], inputs["labels_path"]
        results[name] = evaluation(steps, model, evaluator, data, labels).results
        assert [step.model for step in steps.finished] == [model.name] * 2
        assert (f"infer of {model.name}", "ran") in hospital.watched
    assert {name: given.path.read_text() for name, given in results.items()} == {
        "good": "accuracy: 1.0\n",
        "bad": "accuracy: 0.0\n",
    }
