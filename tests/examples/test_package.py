"""Packaging lays out what `medperf` is given, with the same bytes on every run."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.examples.benchmark import CONTAINERS, DEMO, EXAMPLE, load, packaging

URL = "http://127.0.0.1:8000/"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file under a folder, but for what Python compiled."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def code_of(name: str) -> dict[str, bytes]:
    """Return the bytes of a container's code: its own files, and those it shares with others."""
    shared = ["container.py", *(["patients.py"] if name.startswith("model_") else [])]
    if name.startswith("data_preparator"):
        shared += ["columns.py", "policy.py", "raw.py", "sanity_check.py", "summary.py"]
        shared += ["tables.py"]
    return {
        **contents(EXAMPLE / name / "project"),
        **{file: (EXAMPLE / "shared" / file).read_bytes() for file in shared},
    }


def unpacked(archive: Path) -> dict[str, bytes]:
    """Return the bytes of every member of a tarball."""
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.mark.parametrize("platform", ["docker", "process"])
def test_another_checkout_at_another_time_gives_the_same_bytes(
    platform: str, tmp_path: Path
) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(EXAMPLE, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    (copy / "metrics" / "project" / "__pycache__").mkdir(exist_ok=True)
    (copy / "metrics" / "project" / "__pycache__" / "main.pyc").write_bytes(b"compiled")
    packaging.package(tmp_path / "ours", platform, base_url=URL)
    load(copy / "package.py").package(tmp_path / "theirs", platform, base_url=URL)
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")


def test_the_layout_names_every_file_to_host_with_its_digest(tmp_path: Path) -> None:
    files = list(packaging.package(tmp_path, "process", base_url=URL).files())
    for file in files:
        assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    named = {file.path for file in files}
    assert named >= set((tmp_path / "assets").iterdir())
    assert named >= set(tmp_path.glob("*/container_config.yaml"))
    assert named >= set(tmp_path.glob("*/workspace/parameters.yaml"))
    assert len(named) == len(files) == 18


def test_archives_hold_the_inside_of_their_folders(tmp_path: Path) -> None:
    layout = packaging.package(tmp_path, "process")
    assert unpacked(layout.demo_data.path) == contents(DEMO)
    for name in CONTAINERS:
        container, folder = layout.containers[name], EXAMPLE / name
        assert unpacked(container.project.path) == code_of(name)
        additional = folder / "workspace" / "additional_files"
        assert (container.additional_files is None) == (not additional.exists())
        if container.additional_files:
            assert unpacked(container.additional_files.path) == contents(additional)
        assert contents(tmp_path / name / "workspace") == contents(folder / "workspace")


def test_archives_tell_nothing_of_who_packed_them_and_when(tmp_path: Path) -> None:
    packaging.package(tmp_path, "process")
    for archive in (tmp_path / "assets").iterdir():
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o644)
        }
        assert archive.read_bytes()[4:8] == bytes(4)


def test_docker_containers_name_their_image(tmp_path: Path) -> None:
    layout = packaging.package(tmp_path, "docker", image_prefix="registry.test/group/")
    for name, container in layout.containers.items():
        config = yaml.safe_load(container.config.path.read_text())
        assert config["container_type"] == "DockerImage"
        assert config["image"] == container.image
        assert container.image == f"registry.test/group/breast-cancer-{name}:1.0"
        assert container.project is None


def test_the_configurations_in_the_tree_are_the_docker_ones(tmp_path: Path) -> None:
    packaging.package(tmp_path, "docker")
    for name in CONTAINERS:
        config = Path(name) / "container_config.yaml"
        assert (tmp_path / config).read_bytes() == (EXAMPLE / config).read_bytes()


@pytest.mark.parametrize("url", [URL, URL.rstrip("/")])
def test_hosted_process_containers_name_the_url_of_their_code(url: str, tmp_path: Path) -> None:
    layout = packaging.package(tmp_path, "process", base_url=url)
    for container in layout.containers.values():
        config = yaml.safe_load(container.config.path.read_text())
        assert config["container_type"] == "Process"
        assert config["image"] == container.image
        hosted = container.project.path.relative_to(tmp_path)
        assert container.image == f"{URL}{hosted.as_posix()}"


def test_local_process_containers_name_the_copy_of_their_code_beside_them(tmp_path: Path) -> None:
    layout = packaging.package(tmp_path, "process")
    for name, container in layout.containers.items():
        assert yaml.safe_load(container.config.path.read_text())["image"] == "project"
        copy = container.config.path.parent / "project"
        assert contents(copy) == code_of(name)


def test_platforms_differ_in_kind_and_image_alone(tmp_path: Path) -> None:
    def tasks(platform: str) -> list[dict[str, object]]:
        layout = packaging.package(tmp_path / platform, platform)
        configs = [
            yaml.safe_load(container.config.path.read_text())
            for container in layout.containers.values()
        ]
        return [{**config, "container_type": None, "image": None} for config in configs]

    assert tasks("docker") == tasks("process")


def test_the_demo_data_say_where_data_and_labels_are() -> None:
    paths = yaml.safe_load((DEMO / "paths.yaml").read_text())
    assert set(paths) == {"data_path", "labels_path"}
    for folder in paths.values():
        assert {path.name for path in (DEMO / folder).iterdir()} == {
            "northgate.csv",
            "riverside.csv",
        }


def test_an_unknown_platform_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="platform is 'podman'; expected one of docker, process"):
        packaging.package(tmp_path, "podman")


def test_the_script_needs_python_alone_and_prints_digests(tmp_path: Path) -> None:
    script = [sys.executable, "-I", "-S", str(EXAMPLE / "package.py"), str(tmp_path)]
    done = subprocess.run(
        [*script, "--platform", "process", "--base-url", URL],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    layout = packaging.package(tmp_path, "process", base_url=URL)
    expected = [f"{file.sha256}  {file.path}" for file in layout.files()]
    assert done.stdout.splitlines() == expected


def test_no_two_containers_carry_the_same_file_in_the_tree() -> None:
    holders: dict[bytes, set[Path]] = {}
    for name in (*CONTAINERS, "shared"):
        for path in packaging.members(EXAMPLE / name).values():
            holders.setdefault(path.read_bytes(), set()).add(path)
    assert [paths for paths in holders.values() if len(paths) > 1] == []


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_that_is_laid_out_imports_nothing_from_elsewhere(
    name: str, tmp_path: Path
) -> None:
    packaging.package(tmp_path, "docker")
    laid_out = [sys.executable, "-S", "-B", "main.py"]
    done = subprocess.run(
        laid_out, cwd=tmp_path / name / "project", env={}, capture_output=True, text=True
    )
    assert done.stderr.startswith("usage: python3 main.py ")


def test_an_image_is_built_of_a_folder_that_holds_all_it_needs(tmp_path: Path) -> None:
    layout = packaging.package(tmp_path, "docker")
    for name, container in layout.containers.items():
        folder = container.config.path.parent
        assert contents(folder / "project") == code_of(name)
        for file in ("Dockerfile", ".dockerignore"):
            assert (folder / file).read_bytes() == (EXAMPLE / "shared" / file).read_bytes()


def test_everything_that_is_shared_is_laid_out_for_somebody() -> None:
    assert {path.name for path in (EXAMPLE / "shared").iterdir() if path.is_file()} == {
        *packaging.SHARED_CODE,
        *packaging.SHARED_BUILD,
    }
    for name, holders in packaging.SHARED_CODE.items():
        module = name.removesuffix(".py")
        for container in CONTAINERS:
            own = b"".join(contents(EXAMPLE / container / "project").values()).decode()
            assert (f"from {module} import" in own) == (container in holders), (name, container)
