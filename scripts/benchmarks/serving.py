"""A registry and other applications under gunicorn, and the least that a client can cost."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER_ROOT = Path(__file__).parents[2] / "server"
WORKERS = 2


def database_url(folder: Path) -> str:
    """SQLite in a folder."""
    return f"sqlite:///{folder / 'registry.db'}"


def fill(url: str, containers: int = 3) -> str:
    """Make a registry with a benchmark and so many containers; returns a member's token."""
    sys.path.insert(0, str(SERVER_ROOT))
    from sqlalchemy import insert

    from medperf_server.app import create_app
    from medperf_server.auth import add_user, issue_token
    from medperf_server.database import migrate
    from medperf_server.models import Benchmark, Container, db

    app = create_app(url)
    migrate(app)
    with app.app_context():
        user = add_user("ada@example.org")
        rows = [
            {
                "name": f"container-{number}",
                "owner": user.id,
                "git_mlcube_url": f"https://example.org/{number}/container_config.yaml",
                "mlcube_hash": f"{number:064x}",
                "image_hash": f"{number:064x}",
            }
            for number in range(1, containers + 1)
        ]
        db.session.execute(insert(Container), rows)
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


@contextmanager
def gunicorn(
    folder: Path, application: str, worker_class: str = "sync", url: str | None = None
) -> Iterator[int]:
    """The application under gunicorn on a free loopback port; the registry on a database."""
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
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(SERVER_ROOT), os.environ.get("PYTHONPATH", "")]),
                "MEDPERF_DATABASE_URL": url or database_url(folder),
                # One token asks here for as many members as the server bears.
                "MEDPERF_RATE_LIMIT": "10000000/minute",
            },
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


def connect(port: int) -> socket.socket:
    """A connection to a loopback port that waits for nothing."""
    channel = socket.create_connection(("127.0.0.1", port), timeout=30)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return channel


def answer(channel: socket.socket) -> tuple[bytes, bytes]:
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
