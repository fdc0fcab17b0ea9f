"""Images made without any network: this machine's Python as a base, and builds on top of it."""

import io
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

# localhost/, or Podman would take it for an image of docker.io.
BASE = f"localhost/medperf-test/python:{platform.python_version()}"
# Nothing in a container imports these, and they are most of what an installation weighs.
_LEFT_OUT = re.compile(
    r"(^|/)(site-packages|dist-packages|tests?|idlelib|tkinter|turtledemo|ensurepip|lib2to3"
    r"|pydoc_data|turtle\.py|__pycache__|config-3[^/]*"
    # Python does without these, or no container imports them; and each brings a library along.
    r"|(_ssl|_hashlib|_sqlite3|_dbm|_gdbm|_curses|_curses_panel|_tkinter|nis|readline|_test\w+"
    r"|_codecs_\w+)\..*\.so)(/|$)"
)


def base_image(client: "DockerClient") -> str:
    """An image of the Python that runs this, made once an engine; returns its name."""
    import docker

    try:
        client.images.get(BASE)
    except docker.errors.ImageNotFound:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            _add_system(tar)
            _add_python(tar)
        answer = client.api.import_image_from_data(
            content.getvalue(), changes=["ENV PATH=/usr/local/bin:/usr/bin:/bin"]
        )
        image_id = json.loads(answer.splitlines()[-1])["status"]
        tag(client, image_id, BASE)
    return BASE


def tag(client: "DockerClient", image_id: str, reference: str) -> None:
    repository, tag = reference.rsplit(":", 1)
    client.api.tag(image_id, repository, tag)


def build(client: "DockerClient", folder: Path, name: str) -> str:
    """Build `folder`, whose Dockerfile has `ARG BASE`, without network; returns the image ID."""
    image, _ = client.images.build(
        path=str(folder),
        tag=name,
        buildargs={"BASE": base_image(client)},
        network_mode="none",
        rm=True,
        forcerm=True,
    )
    return str(image.id).removeprefix("sha256:")


def _add_system(tar: tarfile.TarFile) -> None:
    _add_folder(tar, "tmp", 0o1777)
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/false\n",
        "etc/group": "root:x:0:\n",
    }.items():
        member = tarfile.TarInfo(name)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)


def _add_python(tar: tarfile.TarFile) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    interpreter = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    target = f"usr/local/lib/{library.name}"
    for path in sorted(library.rglob("*")):
        name = f"{target}/{path.relative_to(library)}"
        if path.suffix == ".so" or _LEFT_OUT.search(name.removeprefix(target)):
            continue
        # Else each process in a container compiles anew what it imports, for longer than it runs.
        compiled = Path(cache_from_source(path))
        if path.suffix == ".py" and compiled.exists():
            path, name = compiled, f"{name}c"
        tar.add(path, name, recursive=False, filter=_as_root)
    modules = (library / "lib-dynload").glob("*.so")
    needed = [module for module in modules if not _LEFT_OUT.search(module.name)]
    binaries = {
        "usr/local/bin/python3": interpreter.resolve(),
        **{f"{target}/lib-dynload/{module.name}": module for module in needed},
        **_shared_libraries([interpreter, *needed]),
    }
    with TemporaryDirectory() as folder:
        for name, binary in binaries.items():
            tar.add(_stripped(binary, Path(folder)), name.lstrip("/"), filter=_as_root)


def _stripped(binary: Path, folder: Path) -> Path:
    """A copy without symbols, which may be most of it; itself on a machine that cannot."""
    copy = folder / binary.name
    command = ["strip", "--strip-unneeded", "--preserve-dates", "-o", str(copy), str(binary)]
    is_done = shutil.which("strip") and subprocess.run(command).returncode == 0  # nosec B603
    return copy if is_done else binary


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _shared_libraries(binaries: list[Path]) -> dict[str, Path]:
    """Where the loader looks for each library, and the file that is there."""
    listing = subprocess.run(  # nosec B607
        ["ldd", *map(str, binaries)], capture_output=True, text=True, check=True
    ).stdout
    paths = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listing, re.MULTILINE)
    return {path: Path(path).resolve() for path in paths}
