"""Who takes part in the demo: members at their shells, the registry's host, a host for files."""

import os
import shlex
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests
from ports import own_port

BINARIES = Path(sys.executable).parent


def say(text: str) -> None:
    """A heading of the demo."""
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

    def types(self, *words: str, answers: str = "", fails: bool = False) -> None:
        """Run `medperf` with these words; it must succeed, or fail with exit code 1 (`fails`).

        `answers` is what the member types.
        """
        command = ["medperf", *words]
        print(f"\n[{self.who}] $ {shlex.join(command)}", flush=True)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, input=answers, text=True
        )
        if done.returncode != int(fails):
            raise SystemExit(f"It ended with {done.returncode}, and not with {int(fails)}.")


class Browser:
    """A browser in which somebody has signed in with a token."""

    def __init__(self, who: str, url: str, token: str) -> None:
        self._who, self._url, self._session = who, url, requests.Session()
        self._session.trust_env = False
        self._session.post(f"{url}/sign-in", {"token": token}, timeout=60).raise_for_status()

    def saves(self, path: str, file: Path) -> str:
        """Keep a page with its style, so that it is what it was; its HTML."""
        print(f"\n[{self._who}] opens {self._url}{path}, and keeps it as {file}", flush=True)
        page, style = (self._get(one) for one in (path, "/static/style.css"))
        page = page.replace("</head>", f"<style>{style}</style></head>")
        file.write_text(page, encoding="utf-8")
        return page

    def _get(self, path: str) -> str:
        answer = self._session.get(self._url + path, timeout=60)
        answer.raise_for_status()
        return answer.text


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


class FileHost:
    """A small HTTP server for a folder; at the same address whenever it serves."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.port = folder, own_port()
        self.url = f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Serve; returns when it listens."""
        handler = partial(QuietHandler, directory=str(self.folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()


class RegistryHost:
    """Who runs the registry: SQLite and waitress, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, own_port()
        self.url = f"http://127.0.0.1:{self.port}"
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

    def start(self) -> None:
        """`medperf-server run`, at the same address every time; returns when it serves."""
        port = str(self.port)
        print(f"\n[registry host] $ medperf-server run --port {port}", flush=True)
        with (self.folder / "registry.log").open("a") as log:
            self._process = subprocess.Popen(
                [str(BINARIES / "medperf-server"), "run", "--port", port],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        print(self._process.stdout.readline(), end="", flush=True)

    def tampers(self, statement: str) -> None:
        """Run SQL on the registry's database, behind its back."""
        (database,) = self.folder.glob("instance/*.db")
        print(f"\n[registry host] $ sqlite3 {database.name} {shlex.quote(statement)}", flush=True)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(statement)

    def stop(self) -> None:
        """End the registry, if it serves."""
        self._process.terminate()
        self._process.wait()


class Network:
    """What everybody reaches each other by: the registry and the host for files, or neither."""

    def __init__(self, registry: RegistryHost, files: FileHost) -> None:
        self.registry, self.files = registry, files

    def __enter__(self) -> "Network":
        self.files.start()
        self.registry.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.files.stop()
        self.registry.stop()

    def goes(self) -> None:
        """Take both away."""
        self.__exit__()

    def returns(self) -> None:
        """Have both back."""
        self.__enter__()
