"""MedPerf's hash of a dataset's folder, against `sha256sum` on all cores."""

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.memory import peak, peak_bytes
from benchmarks.timing import Run, command, compare

TIME_GOAL = 1.15
UNCHANGED_GOAL_SECONDS = 1.0
MEMORY_GOAL_BYTES = 150 << 20
FOLDERS, FILES_A_FOLDER, SMALL_BYTES = 100, 1000, 4096
LARGE_BYTES = 512 << 20
HASH = """
import sys
from pathlib import Path
from medperf_cache import Storage
fingerprints = Storage(Path(sys.argv[1])).fingerprints
print(fingerprints.folder_hash(Path(sys.argv[2]), progress=lambda what, done, total: None))
"""
# What a command of the client has in memory besides.
CLIENT = "import medperf_client.site, medperf_client.containers.docker, docker, rich.progress"
EACH = 'find "$1" -type f -print0 | xargs -0 -P"$2" -n"$3" sha256sum'


def measure(gibibytes: int = 20, rounds: int = 3) -> dict[str, Any]:
    """100,000 small files, and so much in large ones: anew, unchanged, and how much memory."""
    figures = {}
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        small, large = _small(folder / "small"), _large(folder / "large", gibibytes)
        for name, data, at_once in (("small", small, 500), ("large", large, 1)):
            anew = [sys.executable, "-c", HASH, str(folder / "cache"), str(data)]
            cores = str(len(os.sched_getaffinity(0)))
            theirs = command(["sh", "-c", EACH, "sh", str(data), cores, str(at_once)])
            forget = _forget(folder / "cache")
            figures[f"hash_{name}"] = compare(
                command(anew), theirs, rounds, TIME_GOAL, before_ours=forget
            )
            forget()
            client = [sys.executable, "-c", CLIENT + HASH, *anew[3:]]
            figures[f"hash_{name}_memory"] = peak(
                {"anew": peak_bytes(client), "unchanged": peak_bytes(client)}, MEMORY_GOAL_BYTES
            )
        again = command([sys.executable, "-c", HASH, str(folder / "known"), str(small)])
        figures["hash_unchanged"] = _within(again, rounds)
    return figures


def _small(folder: Path) -> Path:
    for number in range(FOLDERS):
        (folder / f"{number:03}").mkdir(parents=True)
        block = os.urandom(SMALL_BYTES * FILES_A_FOLDER)
        for file in range(FILES_A_FOLDER):
            content = block[file * SMALL_BYTES : (file + 1) * SMALL_BYTES]
            (folder / f"{number:03}" / f"{file:04}.dcm").write_bytes(content)
    return folder


def _large(folder: Path, gibibytes: int) -> Path:
    folder.mkdir()
    block = os.urandom(1 << 20)
    for number in range(gibibytes * (1 << 30) // LARGE_BYTES):
        with (folder / f"{number:03}.nii").open("wb") as file:
            for _ in range(LARGE_BYTES // len(block)):
                file.write(block)
    return folder


def _forget(cache: Path) -> Run:
    return lambda: shutil.rmtree(cache, ignore_errors=True)


def _within(run: Run, rounds: int) -> dict[str, Any]:
    """A run against the time it may take."""
    timed = compare(run, lambda: None, rounds, 1.0)
    return {
        "seconds": timed["seconds"],
        "ratio": round(timed["seconds"] / UNCHANGED_GOAL_SECONDS, 3),
        "goal": 1.0,
        "rounds": rounds,
    }
