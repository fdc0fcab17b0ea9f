"""Play the model owner's tutorial from end to end, every part of it real, in a temporary folder.

Three members take part, each with a home of their own: the benchmark committee, the registry's
administrator and the model owner. Started by `scripts/demo`.
"""

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "breast_cancer"
sys.path.insert(0, str(EXAMPLE))

from package import Layout, package  # noqa: E402

BINARIES = Path(sys.executable).parent
# The tutorial's own path; here it holds our candidate, a small neural network.
MODEL = "medperf_tutorial/model_mobilenetv2/container_config.yaml"


def say(text: str) -> None:
    """A heading of the tutorial."""
    print(f"\n=== {text}", flush=True)


class Member:
    """Somebody at a shell: their commands are shown, then run."""

    def __init__(self, who: str, folder: Path, server_url: str) -> None:
        self.who, self.folder = who, folder
        self.environment = {
            **os.environ,
            "MEDPERF_HOME": str(folder / "homes" / who.replace(" ", "-")),
            "MEDPERF_SERVER_URL": server_url,
            "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
        }
        self.environment.pop("MEDPERF_TOKEN", None)

    def types(self, *words: str, answers: str = "") -> None:
        """Run `medperf` with these words; it must succeed. `answers` is what the member types."""
        command = ["medperf", *words]
        print(f"\n[{self.who}] $ {shlex.join(command)}", flush=True)
        subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=answers,
            text=True,
            check=True,
        )


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def file_host(folder: Path) -> Iterator[str]:
    """A small HTTP server for the tutorial's files; its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class RegistryHost:
    """Who runs the registry: SQLite and waitress, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {k: v for k, v in os.environ.items() if k != "MEDPERF_DATABASE_URL"}

    def types(self, *words: str) -> str:
        """Run `medperf-server` with these words; its stdout."""
        print(f"\n[registry host] $ {shlex.join(['medperf-server', *words])}", flush=True)
        return subprocess.run(
            [str(BINARIES / "medperf-server"), *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """`medperf-server run`; the registry's URL."""
        print("\n[registry host] $ medperf-server run --port 0", flush=True)
        with (self.folder / "registry.log").open("w") as log:
            process = subprocess.Popen(
                [str(BINARIES / "medperf-server"), "run", "--port", "0"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        print(line, end="", flush=True)
        try:
            yield line.split()[-1]
        finally:
            process.terminate()
            process.wait()


def engine_answers() -> bool:
    """Whether a Docker engine can be used."""
    import docker

    try:
        return bool(docker.from_env(timeout=5).ping())
    except docker.errors.DockerException:
        return False


def build_images(layout: Layout) -> None:
    """Build the containers' images, on a base that needs no network: this machine's Python."""
    import docker
    from local_images import build

    engine = docker.from_env()
    for name, container in layout.containers.items():
        print(f"Building image {container.image}", flush=True)
        build(engine, EXAMPLE / name, container.image)


def lay_out(folder: Path, platform: str, base_url: str) -> Layout:
    """The files that the tutorial's authors host, and what the model owner has at hand."""
    layout = package(folder / "hosted", platform=platform, image_prefix="", base_url=base_url)
    if platform == "docker":
        build_images(layout)
    workspace = folder / Path(MODEL).parent
    workspace.parent.mkdir()
    workspace.symlink_to(folder / "hosted" / "model_mlp")
    return layout


def main() -> None:
    """Play the tutorial; raises when a command fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--platform",
        choices=["docker", "process"],
        help="What runs the containers; Docker if an engine answers, else processes of this host.",
    )
    platform = parser.parse_args().platform or ("docker" if engine_answers() else "process")
    with tempfile.TemporaryDirectory(prefix="medperf-demo-") as temporary:
        play(Path(temporary), platform)
    say("The end. All of it ran in a temporary folder, which is gone now.")


def play(folder: Path, platform: str) -> None:
    """The whole tutorial in `folder`."""
    say(f"A registry for the consortium, and a host for its files (containers run as: {platform})")
    host = RegistryHost(folder / "registry")
    host.types("init")
    tokens = {
        who: host.types("user", "add", f"{who}@example.org", *options, "--quiet")
        for who, options in (("committee", []), ("administrator", ["--admin"]), ("owner", []))
    }
    (folder / "hosted").mkdir()
    with contextlib.ExitStack() as services:
        base_url = services.enter_context(file_host(folder / "hosted"))
        server_url = services.enter_context(host.serving())
        layout = lay_out(folder, platform, base_url)
        members = {who: Member(who, folder, server_url) for who in tokens}
        for who, member in members.items():
            if platform == "process":
                member.types("profile", "set", "allow_process", "true")
            member.types("auth", "login", answers=tokens[who])
        committee, owner = members["committee"], members["owner"]
        make_benchmark(committee, members["administrator"], base_url, layout)
        test_model(owner)
        join_benchmark(owner, base_url, layout)
        say("The committee sees the request, and approves it")
        committee.types("association", "ls", "-bm")
        committee.types("association", "approve", "--benchmark", "1", "--model_uid", "4", "--yes")
        owner.types("association", "ls", "-bm")
    say("The registry and the file host are gone now: what is cached still works")
    owner.types("benchmark", "ls")
    test_model(owner)
    owner.types("test", "run", "--benchmark", "1", "--model", "4")


def submit_container(member: Member, name: str, base_url: str, folder: str, layout: Layout) -> None:
    """`medperf container submit`, as the tutorial shows it."""
    options = ["--container-config-file", f"{base_url}{folder}/container_config.yaml"]
    options += ["--parameters-file", f"{base_url}{folder}/workspace/parameters.yaml"]
    if layout.containers[folder].additional_files is not None:
        options += ["--additional-file", f"{base_url}assets/{folder}_additional_files.tar.gz"]
    member.types("container", "submit", "--name", name, *options, "--operational", answers="y\n")


def make_benchmark(committee: Member, admin: Member, base_url: str, layout: Layout) -> None:
    """What the tutorial takes for granted: three containers and an approved benchmark."""
    say("The benchmark committee submits its containers and its benchmark")
    for folder in ("data_preparator", "model_logistic", "metrics"):
        submit_container(committee, folder.replace("_", "-"), base_url, folder, layout)
    committee.types(
        *("benchmark", "submit", "--name", "breast-cancer"),
        *("--description", "Malignant or benign, from fine-needle aspirates"),
        *("--demo-url", f"{base_url}assets/demo_data.tar.gz"),
        *("--data-preparation-container", "1", "--reference-model-container", "2"),
        *("--evaluator-container", "3", "--operational"),
        answers="y\n",
    )
    say("The registry's administrator approves the benchmark")
    admin.types("benchmark", "approve", "1", "--yes")


def test_model(owner: Member) -> None:
    """The tutorial's step 1."""
    say("1. Test your container's compatibility")
    owner.types("benchmark", "ls")
    owner.types("test", "run", "--benchmark", "1", "--model", MODEL)


def join_benchmark(owner: Member, base_url: str, layout: Layout) -> None:
    """The tutorial's steps 2 and 3."""
    say("2. Submit the container")
    submit_container(owner, "my-model", base_url, "model_mlp", layout)
    owner.types("container", "ls", "--mine")
    say("3. Request participation")
    owner.types("container", "associate", "--benchmark", "1", "--model_uid", "4", answers="y\n")
    owner.types("association", "ls", "-bm")


if __name__ == "__main__":
    main()
