"""Images are had by the cheapest road that gives the right one, and no container is left behind."""

import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from medperf_cache import Storage
from medperf_client.containers import owner
from medperf_client.containers.archive import archive_image_id
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.runner import Job
from medperf_client.containers.spec import DOCKER_ARCHIVE, DOCKER_IMAGE, ContainerSpec, Task
from medperf_client.errors import (
    ContainerFailed,
    InvalidContainer,
    Offline,
    Unsupported,
    WrongHash,
)
from tests.containers.conftest import Sandbox, containers_of
from tests.support.images import BASE, ImageRegistry, base_image, build
from tests.support.registry import IMPORT_ROOTS

if TYPE_CHECKING:
    from docker import DockerClient


def image(reference: str) -> ContainerSpec:
    """A container whose image is that one."""
    return ContainerSpec(DOCKER_IMAGE, reference, {}, "container_config.yaml")


@pytest.fixture
def small_image(engine: "DockerClient", tmp_path: Path) -> Iterator[str]:
    """The ID of an image of one file, made for this test only."""
    yield from _own_image(engine, "scratch", tmp_path / "small")


@pytest.fixture
def model_image(any_engine: "DockerClient", tmp_path: Path) -> Iterator[str]:
    """The ID of an image with Python and a file of its own, made for this test only."""
    yield from _own_image(any_engine, "${BASE}", tmp_path / "model")


def _own_image(client: "DockerClient", base: str, folder: Path) -> Iterator[str]:
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"ARG BASE\nFROM {base}\nCOPY weights /weights\n")
    (folder / "weights").write_text(uuid4().hex)
    image_id = build(client, folder, f"localhost/medperf-test/own:{uuid4().hex}")
    yield image_id
    if _has(client, image_id):
        _forget(client, image_id)


def _has(client: "DockerClient", image_id: str) -> bool:
    return any(known.id == f"sha256:{image_id}" for known in client.images.list())


def _forget(client: "DockerClient", image_id: str) -> None:
    client.images.remove(f"sha256:{image_id}", force=True)
    assert not _has(client, image_id)


def test_an_image_is_pulled_once_and_then_needs_no_registry(
    engine: "DockerClient", small_image: str, image_registry: ImageRegistry
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    _forget(engine, small_image)
    runner = DockerRunner()
    assert runner.image_id(image(reference)) is None
    assert runner.provide(image(reference), expected=small_image) == small_image
    assert runner.image_id(image(reference)) == small_image
    image_registry.stop()
    assert runner.provide(image(reference), expected=small_image) == small_image
    assert runner.provide(image(reference)) == small_image
    image_registry.start()


def test_a_pull_tells_its_progress(
    engine: "DockerClient", python_image: str, image_registry: ImageRegistry, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY weights /weights\n")
    (tmp_path / "weights").write_bytes(os.urandom(4 << 20))
    large = build(engine, tmp_path, "localhost/medperf-test/large:1")
    reference = image_registry.push(engine, large, "large:1")
    _forget(engine, large)
    told: list[tuple[str, int, int | None]] = []
    DockerRunner(progress=lambda *event: told.append(event)).provide(image(reference))
    _forget(engine, large)
    assert {what.split()[0] for what, _, _ in told} == {reference}
    assert all(total is None or 0 < done <= total for _, done, total in told)


def test_another_image_than_the_registered_one_is_refused(
    engine: "DockerClient", small_image: str, image_registry: ImageRegistry
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    registered = "ab" * 32
    with pytest.raises(WrongHash, match=f"{small_image}.*{registered}"):
        DockerRunner().provide(image(reference), expected=registered)


def test_a_name_that_moved_on_does_not_matter_where_the_registered_image_is_here(
    engine: "DockerClient", small_image: str, python_image: str
) -> None:
    runner = DockerRunner()
    assert runner.provide(image(BASE), expected=small_image) == small_image


def test_without_the_image_registry_a_missing_image_is_a_matter_of_being_offline(
    engine: "DockerClient", image_registry: ImageRegistry
) -> None:
    image_registry.stop()
    with pytest.raises(Offline, match="connection refused"):
        DockerRunner().provide(image(f"{image_registry.address}/site/model:1"))
    image_registry.start()


def test_an_unknown_image_is_the_fault_of_the_configuration(
    engine: "DockerClient", image_registry: ImageRegistry
) -> None:
    with pytest.raises(InvalidContainer, match="manifest unknown") as caught:
        DockerRunner().provide(image(f"{image_registry.address}/site/no-such-model:1"))
    assert "container_config.yaml" in caught.value.hint


def test_offline_nothing_is_pulled(
    engine: "DockerClient", small_image: str, image_registry: ImageRegistry
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    _forget(engine, small_image)
    with pytest.raises(Offline, match="as asked"):
        DockerRunner(offline=True).provide(image(reference))
    assert not _has(engine, small_image)


def test_a_pruned_image_comes_back_from_its_copy_and_runs(
    any_engine: "DockerClient", model_image: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    spec = image(f"localhost/medperf-test/away:{uuid4().hex}")
    copies = Storage(tmp_path / "cache").images
    runner = DockerRunner(copies=copies)
    runner.keep(spec, model_image)
    _forget(any_engine, model_image)
    assert runner.image_id(spec) == runner.image_id(spec, expected=model_image) == model_image
    assert runner.provide(spec, expected=model_image) == model_image
    assert DockerRunner().image_id(spec) == model_image
    sandbox.image_id = model_image
    assert len(sandbox.run("print(open('/weights').read())")) == 32


def test_an_image_comes_back_by_the_name_it_was_kept_under(
    engine: "DockerClient", small_image: str, tmp_path: Path
) -> None:
    spec = image(f"localhost/medperf-test/away:{uuid4().hex}")
    runner = DockerRunner(copies=Storage(tmp_path / "cache").images)
    runner.keep(spec, small_image)
    _forget(engine, small_image)
    assert runner.provide(spec) == small_image


def test_the_copy_of_another_image_is_not_used(
    engine: "DockerClient", small_image: str, python_image: str, tmp_path: Path
) -> None:
    spec = image("localhost/medperf-test/away:1")
    runner = DockerRunner(offline=True, copies=Storage(tmp_path / "cache").images)
    runner.keep(spec, python_image)
    _forget(engine, small_image)
    assert runner.image_id(spec, expected=small_image) is None
    with pytest.raises(Offline):
        runner.provide(spec, expected=small_image)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_archive_names_its_image_and_is_loaded(
    engine: "DockerClient", small_image: str, tmp_path: Path, compress: type[bytes]
) -> None:
    runner, archive = DockerRunner(), tmp_path / "model.tar"
    archive.write_bytes(compress(b"".join(runner.save(small_image))))
    _forget(engine, small_image)
    spec = ContainerSpec(DOCKER_ARCHIVE, "https://example.org/model.tar", {}, "c.yaml")
    assert runner.image_id(spec, archive) == small_image
    assert not _has(engine, small_image)
    assert runner.provide(spec, archive) == small_image
    assert _has(engine, small_image)
    with pytest.raises(WrongHash):
        runner.provide(spec, archive, expected="ab" * 32)


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_cannot_claim_the_id_of_another_image(tmp_path: Path) -> None:
    config, claimed = b'{"rootfs": {}}', "ab" * 32
    manifest = json.dumps([{"Config": f"{claimed}.json", "RepoTags": None, "Layers": []}])
    path = _tar(
        tmp_path / "lie.tar", {"manifest.json": manifest.encode(), f"{claimed}.json": config}
    )
    assert archive_image_id(path) == hashlib.sha256(config).hexdigest()


@pytest.mark.parametrize(
    "manifest", [b"", b"{}", b"[]", b"[1]", b"[{},{}]", b'[{"Config": "none"}]', b"\xff"]
)
def test_a_damaged_archive_is_refused_by_name(tmp_path: Path, manifest: bytes) -> None:
    path = _tar(tmp_path / "damaged.tar", {"manifest.json": manifest})
    with pytest.raises(InvalidContainer, match=r"damaged\.tar"):
        archive_image_id(path)


def test_what_is_no_archive_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(os.urandom(1000))[:500])
    for name in ("empty.tar", "cut.tar.gz", "missing.tar"):
        with pytest.raises(InvalidContainer, match=re.escape(name)):
            archive_image_id(tmp_path / name)


def test_the_id_of_an_image_costs_no_slow_import(any_engine: "DockerClient") -> None:
    known = str(any_engine.images.get(base_image(any_engine)).id).removeprefix("sha256:")
    code = f"""
import sys
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.spec import DOCKER_IMAGE, ContainerSpec
assert DockerRunner().image_id(ContainerSpec(DOCKER_IMAGE, {BASE!r}, {{}}, "")) == {known!r}
print(sorted({{"docker", "requests", "urllib3", "http.client", "tarfile"}} & set(sys.modules)))
"""
    assert python(code).stdout == "[]\n"


def test_an_engine_behind_tcp_is_asked_through_the_sdk(
    engine: "DockerClient", python_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relay_to_engine() as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        runner = DockerRunner()
        assert runner.image_id(image(BASE)) == python_image
        assert runner.image_id(image("localhost/medperf-test/none:1")) is None


@contextmanager
def relay_to_engine() -> Iterator[str]:
    """A TCP address that leads to the engine's socket."""
    code = (
        "import socket, threading\n"
        "def pump(a, b):\n"
        "    while data := a.recv(65536): b.sendall(data)\n"
        "    b.shutdown(socket.SHUT_WR)\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "while True:\n"
        "    here, _ = server.accept()\n"
        "    there = socket.socket(socket.AF_UNIX)\n"
        "    there.connect('/var/run/docker.sock')\n"
        "    for pair in (here, there), (there, here):\n"
        "        threading.Thread(target=pump, args=pair, daemon=True).start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        yield f"tcp://127.0.0.1:{relay.stdout.readline().strip()}"
        relay.kill()


def test_without_an_engine_it_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert DockerRunner().image_id(image("site/model:1")) is None
    with pytest.raises(Unsupported, match="no container engine answers") as caught:
        DockerRunner().provide(image("site/model:1"))
    assert "DOCKER_HOST" in caught.value.hint


@pytest.mark.parametrize(
    "kind", ["SingularityFile", "EncryptedDockerArchive", "EncryptedSingularityFile", "MLCube"]
)
def test_a_kind_it_cannot_run_is_refused_by_name(kind: str) -> None:
    spec = ContainerSpec(kind, "https://example.org/model", {}, "model/container_config.yaml")
    with pytest.raises(Unsupported, match=f"model/container_config.yaml.*{kind}"):
        DockerRunner().provide(spec)


def test_an_image_that_is_gone_is_named_when_a_task_needs_it(
    engine: "DockerClient", tmp_path: Path
) -> None:
    job = Job(Task("infer"), "ab" * 32, {}, {}, tmp_path / "log")
    with pytest.raises(ContainerFailed, match="task infer.*" + "ab" * 32):
        DockerRunner().run(job)


def python(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a fresh interpreter that has the product on its path."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@contextmanager
def client_in_a_long_task(sandbox: Sandbox) -> Iterator["subprocess.Popen[bytes]"]:
    """A process whose container is running now, and would do so for minutes."""
    ready = sandbox.folder / "output" / "ready"
    os.mkfifo(ready)
    code = f"""
from pathlib import Path
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.runner import Job
from medperf_client.containers.spec import Task, Volume
run = "import time; open('/output/ready', 'w').close(); time.sleep(120)"
task = Task("infer", ("python3", "-c", run), outputs=(Volume("o", "/output", "directory"),))
folder = Path({str(sandbox.folder)!r})
outputs = {{"o": folder / "output"}}
DockerRunner().run(Job(task, {sandbox.image_id!r}, {{}}, outputs, folder / "log"))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as client:
        # Opens when the container opens its end.
        ready.open("rb").close()
        try:
            yield client
        finally:
            client.kill()


def test_ctrl_c_leaves_no_container(sandbox: Sandbox, any_engine: "DockerClient") -> None:
    with client_in_a_long_task(sandbox) as client:
        assert len(containers_of(any_engine, client.pid)) == 1
        client.send_signal(signal.SIGINT)
        assert client.wait(timeout=30) == -signal.SIGINT
        assert containers_of(any_engine, client.pid) == []


def test_what_a_killed_client_left_is_swept_and_what_lives_is_not(
    sandbox: Sandbox, any_engine: "DockerClient"
) -> None:
    with client_in_a_long_task(sandbox) as client:
        running = containers_of(any_engine, client.pid)
        assert set(running).isdisjoint(sandbox.runner.sweep())
        client.kill()
        client.wait()
        assert containers_of(any_engine, client.pid) == running
        sandbox.runner = DockerRunner()
        sandbox.run("pass")
        assert containers_of(any_engine, client.pid) == []


def test_only_the_dead_of_this_machine_are_known_to_be_dead() -> None:
    host, boot, namespace, pid, started = owner.this_process().split("/")
    assert not owner.is_gone(owner.this_process())
    assert owner.is_gone("/".join([host, boot, namespace, pid, "1"]))
    assert owner.is_gone("/".join([host, "an-earlier-boot", namespace, pid, started]))
    assert not owner.is_gone("/".join(["elsewhere", boot, namespace, pid, "1"]))
    assert not owner.is_gone("/".join([host, boot, "another", pid, "1"]))
    assert not owner.is_gone("a label of somebody else")
