"""How fast the registry answers, against the least that Flask can do under the same gunicorn.

    scripts/bench registry

Both applications run at the same time, two workers each, and take turns under load, so that a
change in the machine's mood meets both. The registry checks a token and reads SQLite for
`GET /api/v0/benchmarks/1/`; the bare application returns a constant.
"""

import multiprocessing
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.serving import answer, connect, database_url, fill, gunicorn

BARE_APP = """
from flask import Flask
app = Flask(__name__)
@app.route("/api/v0/benchmarks/1/")
def benchmark():
    return {"version": "v0"}
"""
GOAL = 0.5
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
        url = database_url(Path(folder))
        token = fill(url)
        return {
            name: against_bare(Path(folder), url, token, worker_class, keep)
            for name, (worker_class, keep) in MODES.items()
        }


def against_bare(
    folder: Path, url: str, token: str, worker_class: str, keep: bool
) -> dict[str, Any]:
    """Reads of one benchmark from the registry on a database, against the bare route."""
    (folder / "bare.py").write_text(BARE_APP)
    rounds: dict[str, list[float]] = {"registry": [], "bare": []}
    errors = 0
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(gunicorn(folder, application, worker_class, url))
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
        channel = channel or connect(port)
        try:
            channel.sendall(request)
            head, body = answer(channel)
            ok = head.startswith(b"HTTP/1.1 200") and body.endswith(b"}\n")
        except OSError:
            ok = False
        good, bad = good + ok, bad + (not ok)
        if not (ok and keep):
            channel.close()
            channel = None
    return good, bad
