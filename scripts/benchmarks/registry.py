"""How fast the registry answers, against the least that Flask can do under the same gunicorn.

    python scripts/benchmarks/registry.py

Both applications run at the same time, two workers each, and take turns under load, so that a
change in the machine's mood meets both. The registry checks a token and reads SQLite for
`GET /api/v0/benchmarks/1/`; the bare application returns a constant.
"""

import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

SERVER_ROOT = Path(__file__).parents[2] / "server"
BARE_APP = """
from flask import Flask
app = Flask(__name__)
@app.route("/api/v0/benchmarks/1/")
def benchmark():
    return {"version": "v0"}
"""
GOAL = 0.5
WORKERS = 2
CLIENTS = 4
ROUNDS = 5
ROUND_SECONDS = 1.0
MODES = {
    "registry": ("sync", False),
    "registry_kept_alive": ("gthread", True),
}


def measure() -> dict[str, Any]:
    """Requests a second of both, for new connections and for kept ones.

    Returns, for each mode, `registry` and `bare` (medians of the rounds, requests a second),
    `ratio` (registry / bare, the median of each round's) and `errors` (answers but 200).
    """
    with tempfile.TemporaryDirectory(prefix="medperf-bench-") as folder:
        token = _fill(Path(folder))
        (Path(folder) / "bare.py").write_text(BARE_APP)
        return {
            name: _compare(Path(folder), token, worker_class, keep)
            for name, (worker_class, keep) in MODES.items()
        }


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SERVER_ROOT), os.environ.get("PYTHONPATH", "")]),
        "MEDPERF_DATABASE_URL": _database_url(folder),
    }


def _database_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'registry.db'}"


def _fill(folder: Path) -> str:
    """Make a registry with one benchmark; returns a member's token."""
    sys.path.insert(0, str(SERVER_ROOT))
    from medperf_server.app import create_app
    from medperf_server.auth import add_user, issue_token
    from medperf_server.database import migrate
    from medperf_server.models import Benchmark, Container, db

    app = create_app(_database_url(folder))
    migrate(app)
    with app.app_context():
        user = add_user("ada@example.org")
        for number in (1, 2, 3):
            digest = f"{number}" * 64
            url = f"https://example.org/{number}/container_config.yaml"
            db.session.add(
                Container(
                    name=f"container-{number}",
                    owner=user.id,
                    git_mlcube_url=url,
                    mlcube_hash=digest,
                    image_hash=digest,
                )
            )
        db.session.flush()
        db.session.add(
            Benchmark(
                name="benchmark",
                description="A benchmark like those that members register. " * 4,
                owner=user.id,
                demo_dataset_tarball_url="https://example.org/demo.tar.gz",
                demo_dataset_tarball_hash="d" * 64,
                data_preparation_mlcube=1,
                reference_model_mlcube=2,
                data_evaluator_mlcube=3,
                metadata_={"test_result": {"auroc": 0.97, "accuracy": 0.93}},
            )
        )
        _, token = issue_token(user.id)
        db.session.commit()
    return token


def _compare(folder: Path, token: str, worker_class: str, keep: bool) -> dict[str, Any]:
    rounds: dict[str, list[float]] = {"registry": [], "bare": []}
    errors = 0
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(_gunicorn(folder, application, worker_class))
            for name, application in (("registry", "medperf_server.wsgi:app"), ("bare", "bare:app"))
        }
        clients = stack.enter_context(multiprocessing.get_context("fork").Pool(CLIENTS))
        for number in range(ROUNDS + 1):
            for name, port in ports.items():
                job = (port, token, keep, ROUND_SECONDS)
                answers = clients.starmap(_load, [job] * CLIENTS, chunksize=1)
                errors += sum(failed for _, failed in answers)
                if number > 0:  # The first round waits for the workers to come up.
                    rounds[name].append(sum(done for done, _ in answers) / ROUND_SECONDS)
    ratios = [ours / bare for ours, bare in zip(rounds["registry"], rounds["bare"], strict=True)]
    return {
        "registry": round(statistics.median(rounds["registry"])),
        "bare": round(statistics.median(rounds["bare"])),
        "ratio": round(statistics.median(ratios), 3),
        "goal": GOAL,
        "errors": errors,
    }


@contextmanager
def _gunicorn(folder: Path, application: str, worker_class: str) -> Iterator[int]:
    """The application under gunicorn on a free loopback port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.set_inheritable(True)
    command = [sys.executable, "-m", "gunicorn", application, "--bind", f"fd://{listener.fileno()}"]
    command += ["--workers", str(WORKERS), "--worker-class", worker_class]
    if worker_class == "gthread":
        command += ["--threads", "4"]
    with (folder / f"{application.partition(':')[0]}.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=log,
        )
    try:
        yield int(listener.getsockname()[1])
    finally:
        process.terminate()
        process.wait(timeout=30)
        listener.close()


def _load(port: int, token: str, keep: bool, seconds: float) -> tuple[int, int]:
    """Ask again and again for some seconds: the good answers, and the others.

    Plain sockets: a client that costs as much as the server would measure itself.
    """
    connection = "keep-alive" if keep else "close"
    request = (
        f"GET /api/v0/benchmarks/1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n"
        f"Authorization: Bearer {token}\r\nAccept: application/json\r\n\r\n"
    ).encode()
    good = bad = 0
    channel = None
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        channel = channel or _connect(port)
        try:
            channel.sendall(request)
            head, body = _answer(channel)
            ok = head.startswith(b"HTTP/1.1 200") and body.endswith(b"}\n")
        except OSError:
            ok = False
        good, bad = good + ok, bad + (not ok)
        if not (ok and keep):
            channel.close()
            channel = None
    return good, bad


def _connect(port: int) -> socket.socket:
    channel = socket.create_connection(("127.0.0.1", port), timeout=30)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return channel


def _answer(channel: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of one answer; raises ConnectionError if it ends early."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(channel)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += _more(channel)
    return head, body


def _more(channel: socket.socket) -> bytes:
    data = channel.recv(65536)
    if not data:
        raise ConnectionError("the answer ended early")
    return data


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
