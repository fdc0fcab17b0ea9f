"""What a container may do for itself works, on every platform, and harms nobody."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_cache import tree_digest
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Input
from medperf_client.containers.spec import Volume
from medperf_client.errors import ContainerFailed
from tests.support.forks import IMPORT_ROOTS
from tests.support.sandbox import ATTEMPT, OUTPUT, Sandbox, as_nobody

WRITE = '(volumes / "output/x").write_text("x")'
RESULTS = Volume("output_path", "/v/results/results.yaml", "file")
GIBIBYTE = 1 << 30


@pytest.fixture
def data(anywhere: Sandbox) -> Input:
    """A folder with others in it, in the cache."""
    folder = anywhere.folder / "input"
    (folder / "more" / "deep").mkdir(parents=True)
    (folder / "more" / "deep" / "scan.txt").write_text("43")
    (folder / "more" / "link").symlink_to("deep/scan.txt")
    return anywhere.kept(folder)


@pytest.fixture
def parameters(anywhere: Sandbox) -> Input:
    """A file in the cache."""
    digest = anywhere.storage.blobs.add([b"epochs: 3\n"])
    return Input(anywhere.storage.blobs.path(digest), digest)


def test_copies_of_its_inputs_are_its_own_to_change(
    anywhere: Sandbox, data: Input, parameters: Input
) -> None:
    code = """
import shutil
copy = volumes / "output" / "copy"
shutil.copytree(volumes / "data", copy, symlinks=True)
shutil.copy(volumes / "parameters", volumes / "output" / "parameters")
for path in copy / "scan.txt", copy / "more/deep/scan.txt", volumes / "output" / "parameters":
    assert os.stat(path).st_mode & 0o200 and os.stat(path.parent).st_mode & 0o200, path
    with path.open("a") as file:
        file.write("!")
(copy / "more/deep/new").touch()
shutil.rmtree(copy / "more/deep")
"""
    step = anywhere.step(code, OUTPUT, data=data, parameters=parameters)
    made = step.output("output_path").path
    assert (made / "copy" / "scan.txt").read_text() == "42!"
    assert (made / "parameters").read_text() == "epochs: 3\n!"
    assert list(anywhere.storage.verify()) == []


def test_its_inputs_are_not_its_own_to_change(
    anywhere: Sandbox, data: Input, parameters: Input
) -> None:
    code = """
attempt(open, volumes / "data/scan.txt", "w")
attempt(open, volumes / "data/new.txt", "w")
attempt(os.unlink, volumes / "data/more/deep/scan.txt")
attempt(os.rename, volumes / "data/more", volumes / "data/less")
attempt(os.chmod, volumes / "data/scan.txt", 0o777)
attempt(open, volumes / "parameters", "a")
(volumes / "output" / "done").write_text("yes")
"""
    anywhere.step(ATTEMPT + code, OUTPUT, data=data, parameters=parameters)
    printed = (anywhere.logs / "infer.log").read_text()
    assert len(printed.splitlines()) == 6 and "worked" not in printed
    assert list(anywhere.storage.verify()) == []


def test_no_byte_of_its_inputs_is_copied_for_it(anywhere: Sandbox, data: Input) -> None:
    code = (
        'print((volumes / "data/scan.txt").stat().st_ino)\n(volumes / "output/x").write_text("x")'
    )
    anywhere.step(code, OUTPUT, data=data)
    printed = (anywhere.logs / "infer.log").read_text()
    assert int(printed) == (data.path / "scan.txt").stat().st_ino


# A folder that everybody may write to, and a file there.
OPEN = """
import os
os.mkdir('/workspace'); os.chmod('/workspace', 0o777)
open('/workspace/weights', 'w').write('7')
"""


def test_it_writes_to_what_its_image_leaves_open_and_that_goes_with_it(
    sandbox: Sandbox, changed_image: Callable[[str], None]
) -> None:
    changed_image(OPEN)
    sandbox.folder.chmod(0o777)
    code = "import os; print(os.listdir('/workspace')); open('/workspace/new', 'w').write('x')"

    def check() -> None:
        for _ in range(2):
            assert sandbox.run(code) == "['weights']"
        with pytest.raises(ContainerFailed, match="Read-only file system"):
            sandbox.run(code, Limits(seconds=60, read_only_root=True))

    as_nobody(check)


def test_its_tmp_is_on_the_disk_and_goes_with_it(anywhere: Sandbox) -> None:
    code = """
import shutil, subprocess, tempfile
with tempfile.NamedTemporaryFile("w", delete=False) as file:
    file.write("a patient")
tool = pathlib.Path(os.environ["TMPDIR"], "tool")
tool.write_text("#!" + shutil.which("python3") + "\\nprint('it runs')\\n")
tool.chmod(0o755)
result = subprocess.run([tool], check=True, capture_output=True).stdout
(volumes / "output" / "result").write_bytes(result)
print(os.environ["TMPDIR"], os.stat(file.name).st_dev)
"""
    step = anywhere.step(code, OUTPUT)
    assert (step.output("output_path").path / "result").read_text() == "it runs\n"
    tmp, device = (anywhere.logs / "infer.log").read_text().split()
    assert int(device) == anywhere.storage.root.stat().st_dev
    assert tmp == "/tmp" if anywhere.runner.name != "process" else not Path(tmp).exists()
    assert list((anywhere.storage.root / "incoming").iterdir()) == []


def test_its_tmp_takes_more_than_its_memory(sandbox: Sandbox) -> None:
    code = f"""
import os
chunk = os.urandom(1 << 20)
with open(os.environ["TMPDIR"] + "/spilled", "wb") as file:
    while file.tell() < {3 * GIBIBYTE}:
        file.write(chunk)
print(os.path.getsize("/tmp/spilled"))
"""
    limits = Limits(seconds=300, memory_bytes=GIBIBYTE)
    assert int(sandbox.run(code, limits)) == 3 * GIBIBYTE


KILLED = """
import sys
from pathlib import Path
from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.process import ProcessRunner
from tests.support.apptainer import Converted
from tests.support.sandbox import OUTPUT, Sandbox
sandbox = Sandbox.__new__(Sandbox)
platform, folder, sandbox.image_id, archive, saved = sys.argv[1:]
sandbox.folder, sandbox.archive = Path(folder), Path(archive) if archive else None
sandbox.converted = Converted(sandbox.image_id, Path(saved), sandbox.archive) if saved else None
runners = {"process": lambda: ProcessRunner(allowed=True), "apptainer": ApptainerRunner}
sandbox.runner = runners.get(platform, DockerRunner)()
code = '''
import time
pathlib.Path(os.environ["TMPDIR"], "spilled").write_text("a patient")
print("ready", flush=True)
while True:
    time.sleep(1)
'''
sandbox.step(code, OUTPUT)
"""


def test_what_a_killed_client_left_in_its_tmp_goes_with_the_next_run(anywhere: Sandbox) -> None:
    saved = anywhere.converted.archive if anywhere.converted else ""
    paths = [str(anywhere.archive or ""), str(saved)]
    words = [anywhere.runner.name, str(anywhere.folder), anywhere.image_id, *paths]
    roots = os.pathsep.join([*IMPORT_ROOTS, os.getcwd()])
    log = anywhere.logs / "infer.log"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *words], env={**os.environ, "PYTHONPATH": roots}
    ) as client:
        while not (log.exists() and "ready" in log.read_text()):
            assert client.poll() is None
        client.send_signal(signal.SIGKILL)
    incoming = anywhere.storage.root / "incoming"
    assert [path.read_text() for path in incoming.rglob("spilled")] == ["a patient"]
    anywhere.step(WRITE, OUTPUT)
    assert list(incoming.iterdir()) == []


def test_links_to_its_output_by_the_mount_path_are_kept_as_relative_ones(
    anywhere: Sandbox, tmp_path: Path
) -> None:
    code = """
out = volumes / "output"
(out / "sub").mkdir()
(out / "b.txt").write_text("b")
(out / "a.txt").symlink_to(out / "b.txt")
(out / "sub" / "up.txt").symlink_to(out / "b.txt")
(out / "sub" / "self").symlink_to(out)
(out / "sub" / "kept").symlink_to("../b.txt")
"""
    made = anywhere.step(code, OUTPUT).output("output_path")
    links = [path for path in made.path.rglob("*") if path.is_symlink()]
    assert {str(link.relative_to(made.path)): os.readlink(link) for link in links} == {
        "a.txt": "b.txt",
        "sub/up.txt": "../b.txt",
        "sub/self": "..",
        "sub/kept": "../b.txt",
    }
    assert (made.path / "sub" / "up.txt").read_text() == "b"
    assert tree_digest(made.path) == made.digest


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "sub/../../x"])
def test_links_that_lead_out_are_named_as_the_container_knows_them(
    anywhere: Sandbox, target: str
) -> None:
    code = f'(volumes / "output" / "bad").symlink_to({target!r})'
    with pytest.raises(ContainerFailed) as caught:
        anywhere.step(code, OUTPUT)
    said = str(caught.value)
    assert f"a link at /output/bad to {target}" in said and "lead out of /output" in said
    assert str(anywhere.folder) not in said


def test_other_things_than_files_are_named_as_the_container_knows_them(anywhere: Sandbox) -> None:
    folder = 'p = volumes / "v/results/results.yaml"; p.unlink(); p.mkdir()'
    for output, code, said in (
        (OUTPUT, 'os.mkfifo(volumes / "output" / "pipe")', "left /output/pipe, no file"),
        (RESULTS, folder, "left at /v/results/results.yaml is no file"),
    ):
        with pytest.raises(ContainerFailed, match=said) as caught:
            anywhere.step(code, output)
        assert str(anywhere.folder) not in str(caught.value)


RENAME = """
results = volumes / "v/results"
(results / "r.tmp").write_text("auc: 0.9")
os.replace(results / "r.tmp", results / "results.yaml")
(results / "beside").write_text("is dropped")
"""


def test_an_output_file_may_be_renamed_into_its_place(anywhere: Sandbox, data: Input) -> None:
    report = Volume("report", "/v/results/report.yaml", "file")
    code = RENAME + '(results / "report.yaml").write_text("in place")'
    step = anywhere.step(code, RESULTS, report, data=data)
    assert step.output("output_path").path.read_text() == "auc: 0.9"
    assert step.output("report").path.read_text() == "in place"
    assert list((anywhere.storage.root / "incoming").iterdir()) == []


def test_an_output_file_may_be_a_link_to_what_is_beside_it(anywhere: Sandbox) -> None:
    for target in ('"epoch3.yaml"', 'results / "epoch3.yaml"'):
        code = f"""
results = volumes / "v/results"
(results / "epoch3.yaml").write_text("auc: 0.9")
(results / "results.yaml").unlink()
(results / "results.yaml").symlink_to({target})
"""
        found = anywhere.step(code, RESULTS).output("output_path").path
        assert found.read_text() == "auc: 0.9" and not found.is_symlink()


def test_an_output_file_that_it_deletes_is_empty(anywhere: Sandbox) -> None:
    code = 'p = volumes / "v/results/results.yaml"; p.write_text("x"); p.unlink()'
    with pytest.raises(ContainerFailed, match="wrote nothing to output_path"):
        anywhere.step(code, RESULTS)


def test_what_its_image_has_beside_an_output_file_is_there(
    sandbox: Sandbox, changed_image: Callable[[str], None]
) -> None:
    changed_image(OPEN)
    code = "open('/workspace/results.yaml', 'w').write(open('/workspace/weights').read())"
    output = Volume("output_path", "/workspace/results.yaml", "file")
    assert sandbox.step(code, output).output("output_path").path.read_text() == "7"


def test_a_flood_of_output_leaves_the_beginning_and_the_end_of_its_log(anywhere: Sandbox) -> None:
    code = """
import sys
print("first words", flush=True)
for _ in range(30):
    sys.stdout.write("x" * 10**6)
print("last words", flush=True)
(volumes / "output" / "x").write_text("x")
"""
    anywhere.step(code, OUTPUT)
    log = (anywhere.logs / "infer.log").read_bytes()
    assert len(log) < 9 << 20
    assert log.startswith(b"first words") and log.rstrip().endswith(b"last words")
    assert b"bytes are left out here" in log


def test_a_preparation_may_leave_what_is_optional_empty(anywhere: Sandbox) -> None:
    outputs = (
        Volume("output_path", "/v/data", "directory"),
        Volume("metadata_path", "/v/metadata", "directory"),
        Volume("report_file", "/v/report/report.yaml", "file"),
    )
    code = '(volumes / "v/data/scan").write_text("x")'
    step = anywhere.step(code, *outputs, task="prepare")
    assert step.output("report_file").digest == sha256(b"").hexdigest()
    assert list(step.output("metadata_path").path.iterdir()) == []
    with pytest.raises(ContainerFailed, match="wrote nothing to output_path"):
        anywhere.step("pass", *outputs, task="prepare")
