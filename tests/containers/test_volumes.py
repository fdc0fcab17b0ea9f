"""What lies at the mount path of an output file in the end is the output, whatever was killed."""

import os
from pathlib import Path

import pytest

from medperf_client.containers.job import Job, Mount
from medperf_client.containers.volumes import FileFolder, laid_out


@pytest.fixture
def outputs(tmp_path: Path) -> list[Mount]:
    """Two output files in one folder."""
    paths = {name: tmp_path / name for name in ("output_path", "report_file")}
    for path in paths.values():
        path.touch()
    return [Mount(path, f"/v/results/{name}.yaml", False) for name, path in paths.items()]


def job(*mounts: Mount) -> Job:
    """A job with these volumes."""
    return Job("docker", "infer", "ab" * 32, Path("/log"), mounts=mounts)


def test_output_files_in_one_folder_share_it(outputs: list[Mount], tmp_path: Path) -> None:
    (folder,) = FileFolder.all_of(job(*outputs))
    assert folder.mount_path == "/v/results" and folder.files == tuple(outputs)
    with laid_out([folder]):
        assert {path.name for path in folder.path.iterdir()} == {
            "output_path.yaml",
            "report_file.yaml",
        }
        folder.place(outputs[0]).write_text("in place")
        # Nothing is lost with whoever is killed now.
        assert outputs[0].path.read_text() == "in place"
    assert {path.name for path in tmp_path.iterdir()} == {"output_path", "report_file"}


def test_what_a_killed_client_left_renamed_into_its_place_is_what_the_next_one_finds(
    outputs: list[Mount],
) -> None:
    (folder,) = FileFolder.all_of(job(*outputs))
    folder.lay_out()
    report = folder.place(outputs[1])
    (folder.path / "r.tmp").write_text("one scan is done")
    os.replace(folder.path / "r.tmp", report)
    folder.path.chmod(0)
    with laid_out(FileFolder.all_of(job(*outputs))):
        assert report.read_text() == "one scan is done"
        assert {path.name for path in folder.path.iterdir()} == {
            "output_path.yaml",
            "report_file.yaml",
        }
    assert outputs[1].path.read_text() == "one scan is done"


def test_a_file_in_a_volume_or_at_the_root_has_no_folder_of_its_own(
    outputs: list[Mount], tmp_path: Path
) -> None:
    for outer in ("/v", "/v/results"):
        assert FileFolder.all_of(job(*outputs, Mount(tmp_path, outer, True))) == []
    assert FileFolder.all_of(job(Mount(outputs[0].path, "/results.yaml", False))) == []
    beside = Mount(tmp_path, "/v/results/data", True)
    assert len(FileFolder.all_of(job(*outputs, beside))) == 1
