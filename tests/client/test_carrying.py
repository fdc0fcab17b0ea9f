"""A dataset goes to another machine of its owner in one file, which nobody has to trust."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import UnsafeArchive
from medperf_client.datasets.carrying import read_about
from tests.support.consortium import Consortium
from tests.support.forks import IMPORT_ROOTS
from tests.support.hospital import Hospital, as_committee

CREATE = ("result", "create", "-b", "1", "-m", "2", "-d")
STAGED = """\
      report_file:
        mount_path: /mlcommons/volumes/report/report.yaml
        type: file
  sanity_check:
"""
Members = dict[str, tuple[tarfile.TarInfo, bytes]]
Change = Callable[[dict[str, Any], Members], None]


def exported(hospital: Hospital, uid: str, folder: Path) -> Path:
    """The file that a dataset was exported to."""
    return Path(hospital.member.json("dataset", "export", "-d", uid, "-o", str(folder))["file"])


def folder_of(hospital: Hospital, uid: str) -> Path:
    """Where a dataset is at a machine."""
    return Path(hospital.member.json("dataset", "view", uid)["here"]["folder"])


def contents(root: Path) -> dict[str, bytes]:
    """What is in a folder, wherever links lead."""
    root = root.resolve()
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


def left_over(hospital: Hospital, *folders: Path) -> list[Path]:
    """What of datasets is at a machine where there should be none."""
    root = hospital.member.home / "registries"
    found = [*root.glob("*/datasets/*/dataset.json"), *root.glob("*/datasets/.private/incoming/*")]
    found += root.glob("*/datasets/.private/content/*/*/*")
    return found + [path for folder in folders for path in folder.glob(".*") if path.is_dir()]


@pytest.fixture
def second(hospital: Hospital) -> Hospital:
    """Another machine of the hospital's."""
    second = hospital.elsewhere("second")
    second.member.does("sync")
    return second


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    """Where files are carried."""
    return tmp_path / "usb"


def in_stages(consortium: Consortium) -> str:
    """A preparator whose work may go on; its UID."""
    folder = consortium.host.folder / "data_preparator"
    text = (folder / "container_config.yaml").read_text().replace("  sanity_check:\n", STAGED, 1)
    (consortium.host.folder / "staged.yaml").write_text(text)
    options = consortium.container_options("data_preparator")
    options[1] = f"{consortium.host.url}staged.yaml"
    committee = as_committee(consortium)
    made = committee.json("container", "submit", "--name", "stages", *options, "-y")
    return str(made["id"])


def rewritten(file: Path, change: Change) -> Path:
    """A file of a dataset with other content."""
    with tarfile.open(file) as tar:
        members = {
            one.name: (one, one.isreg() and tar.extractfile(one).read() or b"")  # type: ignore[union-attr]
            for one in tar
        }
    head = json.loads(members["about.json"][1])
    change(head, members)
    text = json.dumps(head).encode()
    members["about.json"][0].size = len(text)
    members["about.json"] = (members["about.json"][0], text)
    other = file.with_name("other.tar.gz")
    with tarfile.open(other, "w:gz") as tar:
        for info, data in members.values():
            tar.addfile(info, io.BytesIO(data))
    return other


def test_a_dataset_that_was_carried_runs_there_without_raw_data(
    hospital: Hospital, second: Hospital, usb: Path
) -> None:
    uid = hospital.operational()
    first = hospital.member.json(*CREATE, uid)
    file = exported(hospital, uid, usb)
    assert file == usb / f"{uid}.tar.gz" and list(usb.iterdir()) == [file]
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if name.startswith("raw")]
    shutil.rmtree(hospital.data)

    second.member.does("sync")
    second.member.does("dataset", "import", "-d", uid, "-i", str(file))

    here, there = folder_of(hospital, uid), folder_of(second, uid)
    for name in ("data", "labels"):
        assert contents(there / name) == contents(here / name)
        assert not any(one.stat().st_mode & 0o222 for one in (there / name).resolve().rglob("*"))
    assert (there / "statistics.yaml").read_text() == (here / "statistics.yaml").read_text()
    (outcome,) = second.member.json(*CREATE, uid)
    assert outcome["results"] == first[0]["results"] and not outcome["from_cache"]
    again = second.member.run("dataset", "import", "-d", uid, "-i", str(file))
    assert again.returncode == 2 and f"medperf dataset rm -d {uid}" in again.stderr
    second.member.does("dataset", "rm", "-d", uid, "-y")
    second.member.does("dataset", "import", "-d", uid, "-i", str(file))


def test_a_preparation_in_stages_goes_on_at_another_machine(
    own_consortium: Consortium, hospital: Hospital, second: Hospital, usb: Path, tmp_path: Path
) -> None:
    preparator = in_stages(own_consortium)
    paths = ("-d", str(hospital.data / "measurements"), "-l", str(hospital.data / "diagnoses"))
    words = ("dataset", "submit", "-p", preparator, *paths, "--name", "north", "-y")
    uid = str(hospital.member.json(*words)["id"])
    hospital.member.does("dataset", "prepare", "-d", uid, "-y")
    data = folder_of(hospital, uid) / "data"
    corrected = next(path for path in data.rglob("*") if path.is_file())
    corrected.write_text(corrected.read_text() + "\n")
    file, raw = exported(hospital, uid, usb), tmp_path / "large disk" / "raw"

    second.member.does("sync")
    take = ("dataset", "import", "-d", uid, "-i", str(file))
    refused = second.member.run(*take)
    assert refused.returncode == 2 and "--raw_dataset_path" in refused.stderr
    refused = second.member.run(*take, "--raw_dataset_path", str(tmp_path))
    assert refused.returncode == 2 and f"{tmp_path} is there already" in refused.stderr
    assert left_over(second) == []
    here = second.member.json(*take, "--raw_dataset_path", str(raw))["here"]

    assert here["data_path"] == str(raw / "data") and here["labels_path"] == str(raw / "labels")
    assert contents(raw / "data") == contents(hospital.data / "measurements")
    assert contents(Path(here["folder"]) / "data") == contents(data)
    assert list(raw.parent.iterdir()) == [raw]
    second.member.does("dataset", "prepare", "-d", uid, "-y")
    second.member.does("dataset", "set_operational", "-d", uid, "-y")
    # Here it still is as it was before.
    stale = second.elsewhere("third")
    stale.member.does("sync")
    refused = stale.member.run(*take, "--raw_dataset_path", str(tmp_path / "more"))
    assert refused.returncode == 2 and "written while it was in DEVELOPMENT" in refused.stderr


def test_data_that_were_prepared_before_are_carried_as_what_they_are(
    hospital: Hospital, second: Hospital, usb: Path, tmp_path: Path
) -> None:
    uid = hospital.operational()
    folder = folder_of(hospital, uid)
    data = shutil.copytree(folder / "data", tmp_path / "prepared")
    labels = shutil.copytree(folder / "labels", tmp_path / "prepared_labels")
    for path in (data, labels):
        path.chmod(0o755)
    (data / "more.txt").write_text("no measurements")
    paths = ("-d", str(data), "-l", str(labels), "--submit-as-prepared", "-y")
    made = str(hospital.member.json("dataset", "submit", "-p", "1", *paths, "--name", "p")["id"])
    raw = tmp_path / "carried"
    second.member.does("sync")
    before = exported(hospital, made, usb / "before")
    take = ("dataset", "import", "-d", made, "-i")
    second.member.does(*take, str(before), "--raw_dataset_path", str(raw))
    assert contents(raw / "data") == contents(data)
    second.member.does("dataset", "rm", "-d", made, "-y")

    hospital.member.does("dataset", "prepare", "-d", made)
    hospital.member.does("dataset", "set_operational", "-d", made, "-y")
    after = exported(hospital, made, usb)
    second.member.does("sync")
    refused = second.member.run(*take, str(after), "--raw_dataset_path", str(tmp_path / "raw"))
    assert refused.returncode == 2 and "holds no raw data" in refused.stderr
    second.member.does(*take, str(after))
    assert contents(folder_of(second, made) / "data") == contents(data)
    (outcome,) = second.member.json(*CREATE, made)
    assert outcome["error"] is None
    # Nobody can change them there, so nobody needs to look.
    (data / "more.txt").write_text("something else")
    changed = hospital.member.run("dataset", "export", "-d", made, "-o", str(tmp_path / "again"))
    assert changed.returncode == 1 and "are not those that were registered" in changed.stderr
    assert list((tmp_path / "again").iterdir()) == []


def test_what_waits_in_the_queue_is_known_by_what_was_registered(
    own_consortium: Consortium, hospital: Hospital, second: Hospital, usb: Path, tmp_path: Path
) -> None:
    own_consortium.stop()
    assert hospital.submit() == "q1"
    file = exported(hospital, "q1", usb)
    assert file.name == "q1.tar.gz"
    own_consortium.start()
    hospital.member.does("sync")
    second.member.does("sync")
    (uid,) = [str(one["id"]) for one in second.member.json("dataset", "ls", "--mine")]
    raw = ("--raw_dataset_path", str(tmp_path / "raw"))
    second.member.does("dataset", "import", "-d", uid, "-i", str(file), *raw)
    second.member.does("dataset", "prepare", "-d", uid)


def test_a_file_that_is_there_is_not_written_over(hospital: Hospital, usb: Path) -> None:
    uid = hospital.submit()
    usb.mkdir()
    (usb / f"{uid}.tar.gz").write_text("mine")
    refused = hospital.member.run("dataset", "export", "-d", uid, "-o", str(usb))
    assert refused.returncode == 2 and "is there already" in refused.stderr
    assert (usb / f"{uid}.tar.gz").read_text() == "mine"


def test_only_its_owner_takes_a_dataset_and_only_that_one(
    own_consortium: Consortium, hospital: Hospital, second: Hospital, usb: Path
) -> None:
    uid = hospital.operational()
    file = exported(hospital, uid, usb)
    take = ("dataset", "import", "-d", uid, "-i", str(file))
    committee = as_committee(own_consortium)
    refused = committee.run(*take)
    assert refused.returncode == 2 and "is not yours" in refused.stderr
    second.member.does("sync")
    other = rewritten(file, lambda head, members: head.update(dataset=int(uid) + 1))
    refused = second.member.run(*take[:-1], str(other))
    assert refused.returncode == 2 and f"holds dataset {int(uid) + 1} (north)" in refused.stderr
    other = rewritten(file, lambda head, members: head.update(registry="https://example.org"))
    refused = second.member.run(*take[:-1], str(other))
    assert refused.returncode == 2 and "of https://example.org" in refused.stderr


def _first(members: Members, folder: str) -> str:
    return next(n for n, (one, _) in members.items() if n.startswith(folder) and one.isreg())


def _other_data(head: dict[str, Any], members: Members) -> None:
    name = _first(members, "data/")
    info, data = members[name]
    members[name] = (info, bytes(reversed(data)))


def _added(name: str, link: str = "", kind: bytes = tarfile.REGTYPE) -> Change:
    def change(head: dict[str, Any], members: Members) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        members[name] = (info, b"")

    return change


def _less_room(head: dict[str, Any], members: Members) -> None:
    head["total_bytes"] = 1 << 62


def _larger(head: dict[str, Any], members: Members) -> None:
    info = tarfile.TarInfo("data/zeros")
    info.size = head["total_bytes"] + (2 << 20)
    members["data/zeros"] = (info, bytes(info.size))


WRONG: dict[str, tuple[Change, str]] = {
    "other data": (_other_data, "data in "),
    "upwards": (_added("data/../../evil"), "outside the destination"),
    "through a link": (_added("data/x", "/etc", tarfile.SYMTYPE), "absolute path"),
    "out of its part": (_added("data/x", "../labels/y", tarfile.SYMTYPE), "may lead out of"),
    "hard link": (_added("data/x", "statistics.yaml", tarfile.LNKTYPE), "hard links"),
    "a device": (_added("data/x", kind=tarfile.CHRTYPE), "x"),
    "deep": (_added("data/" + "a/" * 200 + "x"), "folders deep"),
    "a stranger": (_added("more"), "other parts than it says: more"),
    "a record": (_added("dataset.json"), "other parts than it says"),
    "large": (_larger, "bytes when unpacked"),
    "no room": (_less_room, "are free at"),
}


def test_what_is_not_what_was_exported_is_refused_and_leaves_nothing(
    hospital: Hospital, second: Hospital, usb: Path
) -> None:
    uid = hospital.operational()
    file = exported(hospital, uid, usb)
    second.member.does("sync")
    for name, (change, said) in WRONG.items():
        other = rewritten(file, change)
        refused = second.member.run("dataset", "import", "-d", uid, "-i", str(other))
        assert refused.returncode == 1 and said in refused.stderr, (name, refused.stderr)
        assert left_over(second) == [], name
    cut = usb / "cut.tar.gz"
    cut.write_bytes(file.read_bytes()[:-100])
    refused = second.member.run("dataset", "import", "-d", uid, "-i", str(cut))
    assert refused.returncode == 1 and left_over(second) == []
    (usb / "text").write_text("no archive")
    refused = second.member.run("dataset", "import", "-d", uid, "-i", str(usb / "text"))
    assert refused.returncode == 1 and "holds no dataset" in refused.stderr


def test_what_is_whole_and_was_not_registered_is_refused(
    hospital: Hospital, second: Hospital, usb: Path
) -> None:
    uid = hospital.operational()
    file = exported(hospital, uid, usb)
    second.member.does("sync")
    take = ("dataset", "import", "-d", uid, "-i")
    told = second.member.run(*take, str(rewritten(file, _other_data))).stderr
    digest = told.split("found ")[1][:64]

    def sound(head: dict[str, Any], members: Members) -> None:
        _other_data(head, members)
        head["parts"]["data"] = digest

    refused = second.member.run(*take, str(rewritten(file, sound)))
    assert refused.returncode == 1 and "was registered" in refused.stderr
    assert left_over(second) == []


@pytest.mark.parametrize(
    "head",
    [
        {"format": "medperf-dataset-2"},
        {"parts": {"../x": "ab" * 32}},
        {"parts": {"data": "no digest"}},
        {"raw": {"data_path": "raw/data"}},
        {"kept": ["statistics.yaml"]},
        {"kept": ["data"]},
        {"is_ready": False},
        {"is_ready": "yes"},
        {"total_bytes": -1},
        {"more": 1},
    ],
)
def test_a_file_that_says_odd_things_of_itself_is_none(
    head: dict[str, Any], tmp_path: Path
) -> None:
    sound = {
        **{"format": "medperf-dataset-1", "registry": "http://a", "dataset": 3, "name": "north"},
        **{"state": "OPERATION", "input_data_hash": "", "as_prepared": False, "is_staged": False},
        **{"is_ready": True, "raw": {}, "kept": ["data", "labels"]},
        "parts": {"data": "ab" * 32, "labels": "ab" * 32},
        "total_bytes": 5,
    }

    def written(content: dict[str, Any]) -> Path:
        info, text = tarfile.TarInfo("about.json"), json.dumps(content).encode()
        info.size = len(text)
        with tarfile.open(tmp_path / "file", "w:gz") as tar:
            tar.addfile(info, io.BytesIO(text))
        return tmp_path / "file"

    assert read_about(written(sound)).dataset == 3
    with pytest.raises(UnsafeArchive, match="holds no dataset"):
        read_about(written({**sound, **head}))


def test_whoever_is_killed_while_a_dataset_is_carried_begins_anew(
    hospital: Hospital, second: Hospital, usb: Path, tmp_path: Path
) -> None:
    """Whatever moment it is: the dataset is here whole, or not at all, and so is its file."""
    uid = hospital.submit()
    hospital.member.does("dataset", "prepare", "-d", uid)
    second.member.does("sync")
    file, raw = exported(hospital, uid, usb), tmp_path / "raw"
    take = ("dataset", "import", "-d", uid, "-i", str(file), "--raw_dataset_path", str(raw))
    for calls in KILLED_AT:
        process = died(second, calls, *take)
        assert process == 9, calls
        if raw.exists():
            # Killed between the two renames: then the raw data are whole, and it is said.
            assert second.member.run(*take).returncode == 2
            assert contents(raw / "data") == contents(hospital.data / "measurements")
            shutil.rmtree(raw)
        assert second.member.run("dataset", "prepare", "-d", uid).returncode == 2
    second.member.does(*take)
    second.member.does("dataset", "prepare", "-d", uid)
    left = [path for path in left_over(second) if "incoming" in str(path)]
    assert left == [] and sorted(tmp_path.glob(".raw*")) == []


# At which of the calls that change something on the disk; see `died`.
KILLED_AT = ("unpack", "make_read_only", "move", "publish", "save", "rename 1", "rename 2")
DYING = """
import os, shutil, sys
from medperf_cache.trees import TreeStore
from medperf_client.datasets import carrying
from medperf_client.datasets.records import Datasets
at = sys.argv.pop(1)
def dying(owner, name, count=1):
    whole, left = getattr(owner, name), [count]
    def method(*given, **more):
        left[0] -= 1
        if not left[0]:
            os._exit(9)
        return whole(*given, **more)
    setattr(owner, name, method)
name, _, count = at.partition(" ")
owners = {"unpack": carrying, "make_read_only": carrying, "move": shutil, "publish": TreeStore}
owners |= {"save": Datasets}
if name in owners:
    dying(owners[name], name)
else:
    whole = carrying._appear
    def appear(*given):
        dying(os, "rename", int(count))
        whole(*given)
    carrying._appear = appear
from medperf_client.__main__ import main
main()
"""


def died(hospital: Hospital, at: str, *words: str) -> int:
    """The exit code of a command that is killed at a certain call."""
    roots = os.pathsep.join(map(str, IMPORT_ROOTS))
    done = subprocess.run(
        [sys.executable, "-c", DYING, at, *words],
        env={**hospital.member.environment, "PYTHONPATH": roots},
        cwd=hospital.member.home.parent,
        capture_output=True,
        timeout=300,
    )
    return done.returncode
