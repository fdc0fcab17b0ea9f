"""A consortium on this machine: registry, file host, members at their shells, a benchmark."""

import copy
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scripts.ports import own_port

from tests.support import forks
from tests.support.forks import ROOT
from tests.support.registry import Registry

EXAMPLE = ROOT / "examples" / "breast_cancer"
APPROVE = ("association", "approve", "--benchmark", "1", "--model_uid", "1", "-y", "--offline")


def packaging() -> Any:
    """The tutorial's `examples/breast_cancer/package.py`, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location("package", EXAMPLE / "package.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["package"] = module
    spec.loader.exec_module(module)
    return module


def package_example(out: Path, platform: str, image_prefix: str, base_url: str | None) -> Any:
    """Lay the tutorial's files out in `out`; see `examples/breast_cancer/package.py`."""
    return packaging().package(out, platform, image_prefix, base_url)


class FileHost:
    """An HTTP server for a folder, on a loopback port that stays the same over stops and starts.

    `requests` holds the path of every request it got.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, port or own_port()
        self.requests: list[str] = []
        self.start()

    @property
    def url(self) -> str:
        """Its base URL, with a slash at the end."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Serve; returns when it listens."""
        handler = partial(_Handler, self.requests, directory=str(self.folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop serving; connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, requests: list[str], *args: Any, **kwargs: Any) -> None:
        self._requests = requests
        super().__init__(*args, **kwargs)

    def log_request(self, *_: Any) -> None:
        self._requests.append(self.path)

    def log_message(self, *_: Any) -> None:
        pass


class Member:
    """Somebody at a shell, with a `MEDPERF_HOME` of their own."""

    def __init__(self, home: Path, server_url: str, token: str | None = None) -> None:
        self.home = home
        inherited = {k: v for k, v in forks.ordinary().items() if not k.startswith("MEDPERF_")}
        self.environment = {
            **inherited,
            "MEDPERF_HOME": str(home),
            "MEDPERF_SERVER_URL": server_url,
        }
        if token is not None:
            self.environment["MEDPERF_TOKEN"] = token

    def command(self, *words: str) -> Sequence[str]:
        """The command line that runs `medperf` with these words."""
        return [sys.executable, "-m", "medperf_client", *words]

    def run(
        self, *words: str, answers: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `medperf` with these words; `answers` is what is typed."""
        return forks.run(
            self.command(*words),
            env=self.environment,
            cwd=cwd or self.home.parent,
            input=answers,
            timeout=300,
        )

    def does(self, *words: str, answers: str = "", cwd: Path | None = None) -> str:
        """The stdout of a command that must succeed."""
        done = self.run(*words, answers=answers, cwd=cwd)
        assert done.returncode == 0, f"medperf {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """The JSON that a command prints, which must succeed."""
        return json.loads(self.does(*words, "--json"))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on while the test does something else."""
        return forks.Popen(
            self.command(*words),
            env=self.environment,
            cwd=self.home.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Consortium:
    """A registry, a host for the tutorial's files, and the tutorial's benchmark as UID 1."""

    def __init__(
        self, folder: Path, registry: Registry, platform: str, image_prefix: str = ""
    ) -> None:
        self.folder, self.registry, self.platform = folder, registry, platform
        self.host = FileHost(folder / "hosted")
        self.layout = package_example(self.host.folder, platform, image_prefix, self.host.url)

    def member(self, name: str, admin: bool = False, home: str | None = None) -> Member:
        """A member who is logged in, on a new machine: nothing is cached there."""
        token = self.registry.token_for(f"{name}@example.org", admin=admin)
        member = Member(self.folder / "homes" / (home or name), self.registry.url, token)
        member.home.parent.mkdir(exist_ok=True)
        if self.platform == "process":
            member.does("profile", "set", "allow_process", "true")
        return member

    def container_options(self, name: str) -> list[str]:
        """The options of `container submit` for a container of the tutorial."""
        options = ["--container-config-file", f"{self.host.url}{name}/container_config.yaml"]
        options += ["--parameters-file", f"{self.host.url}{name}/workspace/parameters.yaml"]
        if self.layout.containers[name].additional_files is not None:
            archive = f"{self.host.url}assets/{name}_additional_files.tar.gz"
            options += ["--additional-file", archive]
        return options

    def make_benchmark(self) -> None:
        """Containers 1 to 3 and benchmark 1, approved."""
        committee = self.member("committee")
        for name in ("data_preparator", "model_logistic", "metrics"):
            options = self.container_options(name)
            committee.does("container", "submit", "--name", name, *options, "--operational", "-y")
        committee.does(
            *("benchmark", "submit", "--name", "breast-cancer", "--operational", "-y"),
            *("--demo-url", f"{self.host.url}assets/demo_data.tar.gz"),
            *("--data-preparation-container", "1", "--reference-model-container", "2"),
            *("--evaluator-container", "3"),
        )
        self.member("administrator", admin=True).does("benchmark", "approve", "1", "-y")

    def copied(self, folder: Path) -> "Consortium":
        """A stopped consortium as it was, serving anew at its addresses; nobody's home comes."""
        other = copy.copy(self)
        other.folder, other.registry = folder, self.registry.copied(folder / "registry")
        hosted = shutil.copytree(self.host.folder, folder / "hosted")
        other.host = FileHost(hosted, self.host.port)
        other.registry.start()
        return other

    @property
    def candidate(self) -> Path:
        """The candidate model's folder, as its author has it."""
        return self.host.folder / "model_mlp"

    def stop(self) -> None:
        """Stop the registry and the file host."""
        self.registry.stop()
        self.host.stop()

    def start(self) -> None:
        """Serve again, at the same addresses."""
        self.registry.start()
        self.host.start()


def not_json(member: Member, *words: str) -> tuple[Any, str]:
    """The JSON and the stderr of a command that ends with 1."""
    done = member.run(*words, "--json")
    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout), done.stderr
