"""Images on Apptainer: from where they come, that they stay what they are, and how they are run."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.local_images import tag

from medperf_cache import Storage
from medperf_client.containers import cgroups, launch, sif
from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.job import Job, Limits
from medperf_client.containers.platforms import Platforms
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import (
    DOCKER_ARCHIVE,
    DOCKER_IMAGE,
    PROCESS,
    SINGULARITY_FILE,
    ContainerSpec,
    Volume,
)
from medperf_client.errors import (
    ContainerFailed,
    InvalidContainer,
    MedPerfError,
    Offline,
    Unsupported,
    WrongHash,
)
from medperf_client.execution.jobs import execute
from tests.support.apptainer import (
    Converted,
    converted,
    on_path,
    open_folder,
    path_without_apptainer,
    processes_about,
)
from tests.support.forks import IMPORT_ROOTS
from tests.support.images import ARM_ONLY, ImageRegistry, answering, build
from tests.support.sandbox import NOBODY, Sandbox

if TYPE_CHECKING:
    from docker import DockerClient

SPOKEN = "localhost/medperf-test/speaking:1"
ODD = 'a "b" $HOME `x`, c'
# An image that says what it is started with. Only Apptainer's own scripts need its shell.
SPEAKING = f"""
ARG BASE
FROM $BASE
COPY sh /bin/sh
ENV ODD={json.dumps(ODD).replace("$", chr(92) + "$")}
WORKDIR /work
ENTRYPOINT ["python3", "-c", "import sys, os; print(sys.argv[1:], os.getcwd(), os.getenv('ODD'))"]
CMD ["by", "default"]
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty cache."""
    return Storage(tmp_path / "cache")


@pytest.fixture
def runner(storage: Storage) -> Iterator[ApptainerRunner]:
    """Apptainer's runner on that cache."""
    with on_path():
        yield ApptainerRunner(storage=storage)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine answers the product."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")


@pytest.fixture
def here(anywhere: Sandbox) -> Sandbox:
    """A sandbox on Apptainer."""
    return anywhere


only_here = pytest.mark.parametrize("anywhere", ["apptainer"], indirect=True)


@pytest.fixture(scope="module")
def speaking(
    engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Converted]:
    """The image that says what it is started with."""
    context = tmp_path_factory.mktemp("speaking")
    (context / "Dockerfile").write_text(SPEAKING)
    shutil.copy(os.path.realpath("/bin/sh"), context / "sh")
    image_id = build(engine, context, SPOKEN)
    with on_path():
        yield converted(engine, image_id, context)
    engine.images.remove(image_id, force=True)


def archive_of(path: Path) -> ContainerSpec:
    """A container that is a file of Docker's."""
    return ContainerSpec(DOCKER_ARCHIVE, str(path), {}, "container_config.yaml")


def image(reference: str) -> ContainerSpec:
    """A container whose image is that one."""
    return ContainerSpec(DOCKER_IMAGE, reference, {}, "container_config.yaml")


def sif_at(path: Path) -> ContainerSpec:
    """A container that is a file of Apptainer's."""
    return ContainerSpec(SINGULARITY_FILE, str(path), {}, "container_config.yaml")


def test_two_who_convert_an_image_at_the_same_time_convert_it_once(
    for_apptainer: Converted, tmp_path: Path
) -> None:
    storages = [Storage(tmp_path / "cache") for _ in range(2)]

    def provide(storage: Storage) -> Path | None:
        runner, spec = ApptainerRunner(storage=storage), archive_of(for_apptainer.archive)
        image_id = runner.provide(spec, for_apptainer.archive)
        return runner.local_file(spec, image_id, for_apptainer.archive)

    with on_path(), ThreadPoolExecutor() as threads:
        found = set(threads.map(provide, storages))
    assert len(found) == 1 and None not in found
    assert len(list((tmp_path / "cache" / "trees").glob("??/*"))) == 1


def test_an_image_is_converted_once(
    for_apptainer: Converted, storage: Storage, runner: ApptainerRunner, tmp_path: Path
) -> None:
    for_apptainer.put_into(storage)
    spec = archive_of(for_apptainer.archive)
    kept = runner.local_file(spec, for_apptainer.image_id, for_apptainer.archive)
    with pytest.MonkeyPatch.context() as patch:
        # Nothing is left that could convert it again.
        patch.setenv("PATH", str(tmp_path))
        assert runner.provide(spec, for_apptainer.archive) == for_apptainer.image_id
    assert kept is not None and (kept / sif.IMAGE).is_file()
    assert list(storage.verify()) == []


def test_it_comes_from_its_registry_where_there_is_no_engine(
    engine: "DockerClient",
    image_registry: ImageRegistry,
    python_image: str,
    no_engine: None,
    storage: Storage,
    runner: ApptainerRunner,
) -> None:
    name = image_registry.push(engine, python_image, "site/model:1")
    manifest, index = image_registry.index("site/model", "1")
    with pytest.raises(Offline, match="offline, as asked"):
        ApptainerRunner(storage=storage, offline=True).provide(image(name))
    with pytest.raises(WrongHash, match=f"{python_image}.*{'ab' * 32}"):
        runner.provide(image(name), expected="ab" * 32)
    assert runner.provide(image(name), expected=manifest) == python_image
    image_registry.stop()
    for digest in (python_image, manifest, index):
        assert runner.image_id(image(name), expected=digest) == python_image
        assert runner.provide(image(name), expected=digest) == python_image
    # By its name, too, and once the cache was cleaned of what it was converted to.
    assert runner.image_id(image(name)) == python_image
    assert runner.image_id(image(name), expected="ab" * 32) is None
    assert list(storage.verify()) == []


def test_what_was_fetched_without_an_engine_is_good_for_one(
    engine: "DockerClient",
    image_registry: ImageRegistry,
    speaking: Converted,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    name = image_registry.push(engine, speaking.image_id, "site/speaking:1")
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        ApptainerRunner(storage=storage).keep(image(name), speaking.image_id)
    image_registry.stop()
    engine.images.remove(speaking.image_id, force=True)
    docker = DockerRunner(copies=storage.images)
    assert docker.provide(image(name), expected=speaking.image_id) == speaking.image_id
    assert engine.images.get(name).id == f"sha256:{speaking.image_id}"
    tag(engine, f"sha256:{speaking.image_id}", SPOKEN)


def test_an_image_that_only_an_engine_has_comes_from_there(
    speaking: Converted, storage: Storage
) -> None:
    spec = image(SPOKEN)
    runner = ApptainerRunner(storage=storage)
    assert runner.image_id(spec) == speaking.image_id
    runner.keep(spec, speaking.image_id)
    assert speaking.image_id in storage.images


@pytest.mark.parametrize(
    ("status", "content", "kind", "error", "said"),
    [
        (404, b"{}", "application/json", InvalidContainer, "status 404"),
        (401, b"{}", "application/json", InvalidContainer, "status 401"),
        (429, b"{}", "application/json", Offline, "status 429"),
        (503, b"{}", "application/json", Offline, "status 503"),
        (200, b"<html>Welcome</html>", "text/html", Offline, "no image registry"),
        (200, b'{"what": "else"}', "application/json", InvalidContainer, "is no image"),
        (200, json.dumps(ARM_ONLY).encode(), "application/json", InvalidContainer, "not made for"),
    ],
)
def test_what_a_registry_answers_instead_is_named(
    status: int,
    content: bytes,
    kind: str,
    error: type[MedPerfError],
    said: str,
    no_engine: None,
    storage: Storage,
) -> None:
    with answering(status, content, kind) as address, pytest.raises(error, match=said) as caught:
        ApptainerRunner(storage=storage).provide(image(f"{address}/site/model:1"))
    assert caught.type is error


def test_a_registry_that_is_away_is_waited_for(no_engine: None, storage: Storage) -> None:
    with pytest.raises(Offline, match="refused"):
        ApptainerRunner(storage=storage).provide(image("127.0.0.1:9/site/model:1"))


def changed(archive: Path, target: Path, of: str, content: bytes) -> Path:
    """An archive with other content in a member."""
    with tarfile.open(archive) as source, tarfile.open(target, "w") as made:
        for member in source:
            file = source.extractfile(member)
            own = content if member.name == of else file.read() if file else b""
            member.size = len(own)
            made.addfile(member, io.BytesIO(own))
    return target


def layers_of(archive: Path) -> list[str]:
    """The names of the layers in an archive."""
    with tarfile.open(archive) as source:
        file = source.extractfile("manifest.json")
        assert file is not None
        (entry,) = json.load(file)
    return list(entry["Layers"])


def test_a_layer_that_is_not_what_the_image_says_is_refused(
    for_apptainer: Converted, runner: ApptainerRunner, tmp_path: Path
) -> None:
    layers = layers_of(for_apptainer.archive)
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as layer:
        layer.addfile(tarfile.TarInfo("another"))
    path = changed(for_apptainer.archive, tmp_path / "x.tar", layers[0], other.getvalue())
    with pytest.raises(InvalidContainer, match="x.tar is not image .*a layer of it is"):
        runner.provide(archive_of(path), path)


def printed(runner: Runner, job: Job) -> str:
    """What a job writes."""
    runner.run(job)
    return job.log.read_text().strip()


@pytest.mark.parametrize("command", [(), ("it's", "$HOME", "`x`", 'a "b"')])
@pytest.mark.parametrize("entrypoint", [None, (), ("python3", "-c", "import sys; print(sys.argv)")])
def test_a_task_is_started_as_on_docker(
    speaking: Converted,
    tmp_path: Path,
    command: tuple[str, ...],
    entrypoint: tuple[str, ...] | None,
) -> None:
    if entrypoint == ():
        command = ("python3", "-c", "import os, sys; print(sys.argv, os.getcwd())", *command)
    log, more = tmp_path / "log", {"command": command, "entrypoint": entrypoint}
    on_docker = Job("docker", "infer", speaking.image_id, log, **more)
    here = Job("apptainer", "infer", speaking.image_id, log, archive=speaking.folder, **more)
    with on_path():
        assert printed(ApptainerRunner(), here) == printed(DockerRunner(), on_docker)


@pytest.fixture
def own_file(speaking: Converted, tmp_path: Path) -> Path:
    """An image as somebody builds it with Apptainer, who has what Docker saved."""
    file = tmp_path / "model.sif"
    with on_path():
        words = ["apptainer", "--silent", "build", *sif.QUICKLY, str(file)]
        subprocess.run([*words, f"docker-archive:{speaking.archive}"], check=True)
    return file


def test_a_file_of_apptainers_own_is_run_as_it_is(
    own_file: Path, storage: Storage, tmp_path: Path
) -> None:
    runner, spec, log = ApptainerRunner(storage=storage), sif_at(own_file), tmp_path / "log"
    image_id = hashlib.sha256(own_file.read_bytes()).hexdigest()
    assert runner.image_id(spec, own_file) == image_id
    assert runner.provide(spec, own_file, image_id) == image_id
    assert runner.local_file(spec, image_id, own_file) == own_file
    with pytest.raises(WrongHash, match="ab" * 32):
        runner.provide(spec, own_file, "ab" * 32)
    with on_path():
        for command, said in ((), "['by', 'default']"), (("a b", "$c"), "['a b', '$c']"):
            job = Job("apptainer", "infer", image_id, log, archive=own_file, command=command)
            # Its own scripts complain of what is odd.
            assert printed(runner, job).splitlines()[-1].startswith(f"{said} /tmp")
        job = replace(job, command=(), entrypoint=("python3", "-c", "print('else')"))
        execute(Job.read(job.text()))
        assert log.read_text().splitlines()[-1] == "else"


def test_what_is_no_image_of_apptainers_is_refused(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "model.sif"
    file.write_bytes(b"<html>")
    with pytest.raises(InvalidContainer, match=r"model\.sif is no image of Apptainer's"):
        ApptainerRunner(storage=storage).provide(sif_at(file), file)


@only_here
def test_paths_of_what_is_mounted_may_hold_anything(here: Sandbox) -> None:
    scratch, here.folder = here.folder, here.folder / 'a, "b" ü: c'
    here.folder.mkdir()
    here.__post_init__()
    job = here.job("open('/output/copy', 'w').write(open('/input/scan.txt').read())")
    here.runner.run(replace(job, scratch=scratch))
    assert (here.folder / "output" / "copy").read_text() == "42"
    with pytest.raises(ContainerFailed, match='Apptainer cannot work in .*a, "b"') as caught:
        here.runner.run(job)
    assert "MEDPERF_HOME" in caught.value.hint


@only_here
def test_what_it_changes_in_its_image_goes_with_it(here: Sandbox) -> None:
    code = """
import json, os
print(os.path.exists('/new'), os.path.exists('/usr/new'), os.path.getsize(json.__file__) > 0)
open('/new', 'w').write('x'); open('/usr/new', 'w').write('x')
open(json.__file__, 'w').close()
"""
    assert [here.run(code) for _ in range(2)] == ["False False True"] * 2


LINK = """
import os, shutil
shutil.rmtree("/v/results"){parent}
os.symlink({target!r}, {link!r})
"""


@only_here
@pytest.mark.parametrize("link", ["/v/results", "/v"])
def test_it_cannot_have_files_of_the_host_taken_for_its_output(
    here: Sandbox, tmp_path: Path, link: str
) -> None:
    (tmp_path / "results").mkdir()
    secret = tmp_path / "results" / "results.yaml"
    secret.write_text("a patient")
    target = tmp_path / "results" if link == "/v/results" else tmp_path
    parent = "" if link == "/v/results" else "; os.rmdir('/v')"
    output = Volume("output_path", "/v/results/results.yaml", "file")
    with pytest.raises(ContainerFailed, match="wrote nothing to output_path"):
        here.step(LINK.format(target=str(target), link=link, parent=parent), output)
    assert secret.read_text() == "a patient"


@only_here
def test_nothing_of_its_callers_environment_reaches_it(
    here: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APPTAINERENV_SECRET", "mine")
    monkeypatch.setenv("SINGULARITYENV_SECRET", "mine")
    for name in ("APPTAINER_BIND", "SINGULARITY_BIND", "APPTAINER_MOUNT"):
        monkeypatch.setenv(name, f"{tmp_path}:/mine")
    code = "import os; print(os.path.exists('/mine'), 'SECRET' in os.environ, os.environ['HOME'])"
    assert here.run(code) == "False False /tmp"


@only_here
@pytest.mark.parametrize(
    ("gpus", "own", "seen"),
    [(-1, None, None), (-1, "3,4", "3,4"), (2, None, "0,1"), (1, "3,4", "3"), (("7",), "3", "7")],
)
def test_a_task_is_told_which_gpus_to_use(
    here: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int | tuple[str, ...],
    own: str | None,
    seen: str | None,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if own is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", own)
    job = here.job("import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))")
    assert printed(here.runner, replace(job, gpus=gpus)).splitlines()[-1] == str(seen)


LONG = """
import os, sys
from dataclasses import replace
from pathlib import Path
from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.job import Job, Mount
folder, image = map(Path, sys.argv[1:])
run = '''
import os, time
if os.fork() == 0:
    os.setsid()
with open("/output/ready", "w"):
    time.sleep(120)
'''
mounts = (Mount(folder / "output", "/output", False),)
words = ("python3", "-c", run)
job = Job("apptainer", "infer", "id", folder / "log", archive=image, command=words, mounts=mounts)
ApptainerRunner().run(replace(job, scratch=folder))
"""


@only_here
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_a_client_ends_all_of_its_task(here: Sandbox, how: signal.Signals) -> None:
    ready = here.folder / "output" / "ready"
    os.mkfifo(ready)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    words = [sys.executable, "-c", LONG, str(here.folder), str(here.archive)]
    with subprocess.Popen(words, env=environment) as client, ready.open("rb") as task:
        assert len(processes_about(here.folder)) > 2
        client.send_signal(how)
        assert client.wait(timeout=30) == -how
        # It ends when nobody has it open any more.
        task.read()
    while how == signal.SIGKILL and processes_about(here.folder):
        pass
    assert processes_about(here.folder) == []


# Runs `launch.py` as a user who may make no namespaces.
DENIED = """
import os, runpy, sys
program, task, user = sys.argv[1:]
launch = runpy.run_path(program)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    launch["_call"]("unshare", launch["CLONE_NEWUSER"])
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    with open("/proc/sys/user/max_user_namespaces", "w") as most:
        most.write("0")
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
    os.execv(sys.executable, [sys.executable, "-I", "-S", program, task, "2"])
os.read(ready[0], 1)
for kind in ("uid", "gid"):
    with open(f"/proc/{child}/{kind}_map", "w") as map:
        map.write("0 0 65536")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
# Each has a session of its own, and the first one's end makes them nobody's children.
LEAVING = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        time.sleep(120)
        os._exit(0)
print("ready", flush=True)
raise SystemExit(5)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_where_no_namespaces_may_be_made_what_it_started_ends_all_the_same() -> None:
    # One that everybody may execute; pytest's may lie in somebody's home.
    python = "/usr/bin/python3"
    with open_folder() as folder:
        words = [python, "-c", LEAVING, str(folder)]
        task = {"command": words, "environment": {}, "pids": 100, "groups": []}
        (folder / "task.json").write_text(json.dumps(task))
        shutil.copy(launch.__file__, folder / "launch.py")
        done = subprocess.run(
            [python, "-c", DENIED, folder / "launch.py", folder / "task.json", str(NOBODY)],
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("ready\n", "", 5)
        assert processes_about(folder) == []


def test_a_sweep_leaves_the_groups_of_a_task_that_is_about_to_begin() -> None:
    places = cgroups.places()
    with cgroups.bounded(1 << 30, 100) as groups:
        cgroups.sweep()
        assert len(groups) == len(places) and all(group.is_dir() for group in groups)
    assert not any(group.exists() for group in groups)
    # Those of who was killed before go.
    left = [place / f"{cgroups.PREFIX}left" for place in places.values()]
    for group in left:
        group.mkdir(exist_ok=True)
    cgroups.sweep()
    assert not any(group.exists() for group in left)


@only_here
def test_without_control_groups_it_says_that_memory_has_no_limit(
    here: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_limit = Limits(memory_bytes=1 << 30)
    assert here.runner.warning(with_limit) == ""
    assert not any("memory:" in line for line in here.runner.not_held())
    monkeypatch.setattr("medperf_client.containers.cgroups.ROOT", Path("/proc"))
    assert "this limit does not hold" in here.runner.warning(with_limit)
    assert here.runner.warning(Limits()) == ""
    assert any("memory:" in line for line in here.runner.not_held())


def kinds_on(platforms: Platforms) -> list[str]:
    """The names of what runs each kind of container."""
    specs = [
        ContainerSpec(kind, "an image", {}, "c.yaml")
        for kind in (DOCKER_IMAGE, DOCKER_ARCHIVE, SINGULARITY_FILE, PROCESS)
    ]
    return [platforms.runner_for(spec).name for spec in specs]


def test_what_answers_runs_images_unless_a_profile_says_what_to_use(
    engine: "DockerClient",
    podman: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with on_path():
        assert kinds_on(Platforms(True)) == ["docker", "docker", "apptainer", "process"]
        for name in ("docker", "podman", "apptainer", "process"):
            assert kinds_on(Platforms(True, chosen=name)) == [name] * 3 + ["process"]
        monkeypatch.setattr("medperf_client.containers.engine.DEFAULT_SOCKET", str(tmp_path / "no"))
        runtime = tmp_path / "podman"
        runtime.mkdir()
        (runtime / "podman.sock").symlink_to(podman.removeprefix("unix://"))
        with monkeypatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
            assert kinds_on(Platforms(True)) == ["podman", "podman", "apptainer", "process"]
            Platforms(True).runner_for(image("x")).ready(image("x"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
        assert kinds_on(Platforms(True)) == ["apptainer", "apptainer", "apptainer", "process"]
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", path_without_apptainer(tmp_path / "bin"))
    assert kinds_on(Platforms(True)) == ["docker", "docker", "apptainer", "process"]
    with pytest.raises(Unsupported, match="none of apptainer and singularity is on PATH"):
        Platforms(True).runner_for(sif_at(tmp_path)).ready(sif_at(tmp_path))


def test_a_platform_refuses_by_name_what_it_does_not_run() -> None:
    for name, kind in (("docker", SINGULARITY_FILE), ("process", DOCKER_IMAGE)):
        spec = ContainerSpec(kind, "an image", {}, "c.yaml")
        with pytest.raises(Unsupported, match=f"container of kind {kind}") as caught:
            Platforms(True, chosen=name).runner_for(spec).check(spec)
        assert f"platform '{name}' runs" in caught.value.hint
