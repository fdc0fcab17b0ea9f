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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from medperf_cache import Storage
from medperf_client.containers import owner
from medperf_client.containers.archive import archive_image_id
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.engine import api_version, socket_path
from medperf_client.containers.job import Job
from medperf_client.containers.spec import DOCKER_ARCHIVE, DOCKER_IMAGE, ContainerSpec
from medperf_client.errors import (
    ContainerFailed,
    InvalidContainer,
    Offline,
    Unsupported,
    WrongHash,
)
from medperf_client.execution.jobs import execute
from tests.support.engine import docker_client
from tests.support.forks import IMPORT_ROOTS
from tests.support.images import ARM_ONLY, BASE, ImageRegistry, answering, base_image, build
from tests.support.sandbox import Sandbox, containers_of

if TYPE_CHECKING:
    from docker import DockerClient


def image(reference: str) -> ContainerSpec:
    """A container whose image is that one."""
    return ContainerSpec(DOCKER_IMAGE, reference, {}, "container_config.yaml")


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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
    engine: "DockerClient",
    small_image: str,
    any_engine: "DockerClient",
    image_registry: ImageRegistry,
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    registered = "ab" * 32
    with pytest.raises(WrongHash, match=f"{small_image}.*{registered}"):
        DockerRunner().provide(image(reference), expected=registered)


@pytest.mark.parametrize("which", ["configuration", "manifest", "index"])
def test_an_image_is_had_by_any_of_its_digests_and_then_with_no_registry(
    engine: "DockerClient",
    small_image: str,
    any_engine: "DockerClient",
    image_registry: ImageRegistry,
    tmp_path: Path,
    which: str,
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    manifest, index = image_registry.index("site/model", "1")
    _forget(engine, small_image)
    digests = {"configuration": small_image, "manifest": manifest, "index": index}
    spec, cache = image(reference), Storage(tmp_path / "cache")
    runner = DockerRunner(copies=cache.images)
    assert runner.provide(spec, expected=digests[which]) == small_image
    runner.keep(spec, small_image)
    image_registry.stop()
    assert runner.image_id(spec, expected=digests[which]) == small_image
    assert runner.provide(spec) == small_image
    any_engine.images.remove(f"sha256:{runner.local_id(spec, small_image)}", force=True)

    # A machine that has nothing but the copy can tell, too: nobody's word is taken.
    other = Storage(tmp_path / "other")
    for part in cache.images.parts(small_image):
        other.blobs.add([cache.blobs.path(part).read_bytes()])
    other.images.note(small_image, cache.images.parts(small_image)[0])
    island = DockerRunner(offline=True, copies=other.images)
    assert island.image_id(spec, expected=digests[which]) == small_image
    assert island.provide(spec, expected=digests[which]) == small_image
    any_engine.images.remove(f"sha256:{island.local_id(spec, small_image)}", force=True)
    image_registry.start()


def test_a_copy_is_whole_where_the_engine_has_a_layer_of_another_image(
    engine: "DockerClient",
    containerd: str,
    image_registry: ImageRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = _own_image(engine, "${BASE}", tmp_path / "model")
    image_id = next(own)
    reference = image_registry.push(engine, image_id, "site/model:1")
    base = tmp_path / "base.tar"
    base.write_bytes(b"".join(DockerRunner().save(DockerRunner().image_id(image(BASE)) or "")))
    spec, copies = image(reference), Storage(tmp_path / "cache").images
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("DOCKER_HOST", containerd)
        runner = DockerRunner(copies=copies)
        runner.load(base)
        assert runner.provide(spec, expected=image_id) == image_id
        runner.keep(spec, image_id)
        docker_client().images.remove(reference, force=True)
    next(own, None)
    image_registry.stop()
    assert DockerRunner(offline=True, copies=copies).provide(spec, expected=image_id) == image_id
    image_registry.start()
    _forget(engine, image_id)


def test_a_name_that_moved_on_does_not_matter_where_the_registered_image_is_here(
    engine: "DockerClient", small_image: str, python_image: str
) -> None:
    runner = DockerRunner()
    assert runner.provide(image(BASE), expected=small_image) == small_image


def test_without_the_image_registry_a_missing_image_is_a_matter_of_being_offline(
    any_engine: "DockerClient", image_registry: ImageRegistry
) -> None:
    image_registry.stop()
    with pytest.raises(Offline, match="connection refused"):
        DockerRunner().provide(image(f"{image_registry.address}/site/model:1"))
    image_registry.start()


def test_the_version_of_its_api_is_that_which_it_tells_at_length(
    any_engine: "DockerClient",
) -> None:
    path = socket_path()
    assert path is not None
    assert api_version(path) == any_engine.version()["ApiVersion"]
    assert api_version(f"{path}.no") is None


def test_an_unknown_image_is_the_fault_of_the_configuration(
    any_engine: "DockerClient", image_registry: ImageRegistry
) -> None:
    with pytest.raises(InvalidContainer, match="manifest unknown|not found") as caught:
        DockerRunner().provide(image(f"{image_registry.address}/site/no-such-model:1"))
    assert "container_config.yaml" in caught.value.hint


def test_an_image_for_another_processor_does_not_come_by_waiting(
    any_engine: "DockerClient",
) -> None:
    with (
        answering(200, json.dumps(ARM_ONLY).encode(), str(ARM_ONLY["mediaType"])) as address,
        pytest.raises(InvalidContainer, match="cannot be pulled") as caught,
    ):
        DockerRunner().provide(image(f"{address}/site/model:1"))
    assert "other processors" in caught.value.hint


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_is_busy_or_broken_may_answer_later(
    any_engine: "DockerClient", status: int
) -> None:
    with answering(status, b"{}", "application/json") as address, pytest.raises(Offline):
        DockerRunner().provide(image(f"{address}/site/model:1"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 451])
def test_what_a_registry_refuses_stays_refused(any_engine: "DockerClient", status: int) -> None:
    with answering(status, b"{}", "application/json") as address, pytest.raises(InvalidContainer):
        DockerRunner().provide(image(f"{address}/site/model:1"))


def test_the_page_of_a_captive_portal_means_offline_and_stands_in_no_image_s_way(
    engine: "DockerClient",
    small_image: str,
    any_engine: "DockerClient",
    image_registry: ImageRegistry,
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    _forget(engine, small_image)
    image_registry.stop()
    with (
        answering(200, b"<html>Welcome</html>", "text/html", image_registry.address),
        pytest.raises(Offline),
    ):
        DockerRunner().provide(image(reference))
    image_registry.start()
    assert DockerRunner().image_id(image(reference)) is None
    assert DockerRunner().provide(image(reference)) == small_image
    any_engine.images.remove(reference, force=True)


def test_offline_nothing_is_pulled(
    engine: "DockerClient", small_image: str, image_registry: ImageRegistry
) -> None:
    reference = image_registry.push(engine, small_image, "site/model:1")
    _forget(engine, small_image)
    with pytest.raises(Offline, match="as asked"):
        DockerRunner(offline=True).provide(image(reference))
    assert not _has(engine, small_image)


def test_a_pruned_image_comes_back_from_its_copy_and_runs(
    any_engine: "DockerClient", model_image: str, engine_sandbox: Sandbox, tmp_path: Path
) -> None:
    spec = image(f"localhost/medperf-test/away:{uuid4().hex}")
    copies = Storage(tmp_path / "cache").images
    runner = DockerRunner(copies=copies)
    image_id = runner.image_id(image(f"sha256:{model_image}"))
    assert image_id is not None
    runner.keep(spec, image_id)
    _forget(any_engine, model_image)
    assert runner.image_id(spec) == runner.image_id(spec, expected=image_id) == image_id
    assert runner.provide(spec, expected=image_id) == image_id
    assert DockerRunner().image_id(spec) == image_id
    engine_sandbox.image_id = runner.local_id(spec, image_id)
    assert len(engine_sandbox.run("print(open('/weights').read())")) == 32


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


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
def test_an_archive_names_its_image_and_is_loaded(
    engine: "DockerClient", small_image: str, tmp_path: Path, compress: Callable[[bytes], bytes]
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


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_is_no_other_image_on_an_engine_that_reads_it_otherwise(
    any_engine: "DockerClient", request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Engines read different lists in an archive: `manifest.json`, or `index.json`."""
    members: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()

    def add(content: bytes) -> str:
        members[f"blobs/sha256/{sha256(content)}"] = content
        return sha256(content)

    def entry(content: bytes, kind: str) -> dict[str, object]:
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{add(content)}", "size": len(content)}

    layers = [entry(layer.getvalue(), "layer.v1.tar")]
    found = {}
    for which in ("registered", "other"):
        root = {"type": "layers", "diff_ids": [layers[0]["digest"]]}
        config = {"architecture": "amd64", "os": "linux", "author": which, "rootfs": root}
        described = entry(json.dumps(config).encode(), "config.v1+json")
        manifest = {"schemaVersion": 2, "config": described, "layers": layers}
        found[which] = described, entry(json.dumps(manifest).encode(), "manifest.v1+json")
    names = [
        str(one["digest"]).removeprefix("sha256:") for one in (found["registered"][0], layers[0])
    ]
    places = [f"blobs/sha256/{name}" for name in names]
    listed = [{"Config": places[0], "RepoTags": None, "Layers": places[1:]}]
    members["manifest.json"] = json.dumps(listed).encode()
    index = {"schemaVersion": 2, "manifests": [found["other"][1]]}
    members["index.json"] = json.dumps(index).encode()
    path = _tar(tmp_path / "two.tar", members)
    spec = ContainerSpec(DOCKER_ARCHIVE, "https://example.org/model.tar", {}, "c.yaml")
    runner = DockerRunner()
    assert runner.image_id(spec, path) == names[0]
    if request.node.callspec.params["any_engine"] != "docker":
        with pytest.raises(WrongHash, match=names[0]):
            runner.provide(spec, path)
        return
    assert runner.provide(spec, path) == names[0]
    assert any_engine.images.get(f"sha256:{names[0]}").attrs["Author"] == "registered"


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


def test_what_is_no_image_is_called_what_it_is_and_by_its_url(tmp_path: Path) -> None:
    spec = ContainerSpec(DOCKER_ARCHIVE, "https://example.org/model.tar", {}, "c.yaml")
    kept = tmp_path / ("ab" * 32)
    for content, called in ((b"PK\3\4", "a zip archive"), (b"<html>", "a web page")):
        kept.write_bytes(content)
        with pytest.raises(
            InvalidContainer, match=r"^https://example\.org/model\.tar is not"
        ) as why:
            DockerRunner().image_id(spec, kept)
        assert f"it is {called}" in str(why.value) and kept.name not in str(why.value)


def test_the_id_of_an_image_that_was_seen_costs_no_slow_import(
    any_engine: "DockerClient", tmp_path: Path
) -> None:
    base_image(any_engine)
    known = DockerRunner(copies=Storage(tmp_path).images).image_id(image(BASE))
    code = f"""
import sys
from pathlib import Path
from medperf_cache import Storage
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.spec import DOCKER_IMAGE, ContainerSpec
runner = DockerRunner(copies=Storage(Path({str(tmp_path)!r})).images)
assert runner.image_id(ContainerSpec(DOCKER_IMAGE, {BASE!r}, {{}}, "")) == {known!r}
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


def test_a_job_with_its_image_as_a_file_runs_on_an_engine_that_lost_it(
    any_engine: "DockerClient", model_image: str, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar"
    archive.write_bytes(b"".join(DockerRunner().save(model_image)))
    _forget(any_engine, model_image)
    words = ("python3", "-c", "print(open('/weights').read())")
    log = tmp_path / "log"
    execute(Job("docker", "infer", model_image, log, archive=archive, command=words))
    assert log.read_text().strip() == (tmp_path / "model" / "weights").read_text()


def test_an_image_that_is_gone_is_named_when_a_task_needs_it(
    engine: "DockerClient", tmp_path: Path
) -> None:
    job = Job("docker", "infer", "ab" * 32, tmp_path / "log")
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
from medperf_client.containers.job import Job
from medperf_client.containers.spec import Task, Volume
run = "import time; open('/output/ready', 'w').close(); time.sleep(120)"
task = Task("infer", ("python3", "-c", run), outputs=(Volume("o", "/output", "directory"),))
folder = Path({str(sandbox.folder)!r})
outputs = {{"o": folder / "output"}}
DockerRunner().run(Job.of("docker", task, {sandbox.image_id!r}, {{}}, outputs, folder / "log"))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as client:
        # Opens when the container opens its end.
        ready.open("rb").close()
        try:
            yield client
        finally:
            client.kill()


def test_ctrl_c_leaves_no_container(engine_sandbox: Sandbox, any_engine: "DockerClient") -> None:
    with client_in_a_long_task(engine_sandbox) as client:
        assert len(containers_of(any_engine, client.pid)) == 1
        client.send_signal(signal.SIGINT)
        assert client.wait(timeout=30) == -signal.SIGINT
        assert containers_of(any_engine, client.pid) == []


def test_what_a_killed_client_left_is_swept_and_what_lives_is_not(
    engine_sandbox: Sandbox, any_engine: "DockerClient"
) -> None:
    with client_in_a_long_task(engine_sandbox) as client:
        running = containers_of(any_engine, client.pid)
        assert set(running).isdisjoint(engine_sandbox.runner.sweep())
        client.kill()
        client.wait()
        assert containers_of(any_engine, client.pid) == running
        engine_sandbox.runner = DockerRunner()
        engine_sandbox.run("pass")
        assert containers_of(any_engine, client.pid) == []


def test_only_the_dead_of_this_machine_are_known_to_be_dead() -> None:
    host, boot, namespace, pid, started = owner.this_process().split("/")
    assert not owner.is_gone(owner.this_process())
    assert owner.is_gone("/".join([host, boot, namespace, pid, "1"]))
    assert owner.is_gone("/".join([host, "an-earlier-boot", namespace, pid, started]))
    assert not owner.is_gone("/".join(["elsewhere", boot, namespace, pid, "1"]))
    assert not owner.is_gone("/".join([host, boot, "another", pid, "1"]))
    assert not owner.is_gone("a label of somebody else")
