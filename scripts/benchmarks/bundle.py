"""A bundle of large files, out and in, against `tar` and `zstd` of the same files."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.consortium import Member

from benchmarks.stage import MEDPERF, environment
from benchmarks.timing import Run, command, compare
from medperf_cache import Storage

TIME_GOAL = 1.5
MEMORY_GOAL_BYTES = 200 << 20
FILES_A_GIBIBYTE = 8
PACK = 'tar -C "$1" -cf - . | zstd -q -f -o "$2" -'
UNPACK = 'mkdir -p "$2" && zstd -d -q -c "$1" | tar -C "$2" -xf -'


def measure(gibibytes: int = 5, rounds: int = 3) -> dict[str, Any]:
    """Export and import of so much that cannot be compressed, as weights and layers are.

    Unlike `tar` and `zstd`, both also hash everything and wait until it is on the disk.
    """
    with TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        url = "http://127.0.0.1:1"
        here, there = Member(folder / "here", url), Member(folder / "there", url)
        _fill(Storage(here.home / "cache"), gibibytes)
        bundle, packed = folder / "bundle", folder / "packed.tar.zst"
        unpacked, blobs = folder / "unpacked", here.home / "cache" / "blobs"
        export = [MEDPERF, "bundle", "export", str(bundle)]
        importing = [MEDPERF, "bundle", "import", str(bundle)]
        figures = {
            "bundle_export": compare(
                command(export, environment(here)),
                command(["sh", "-c", PACK, "sh", str(blobs), str(packed)]),
                rounds,
                TIME_GOAL,
                _clean(bundle),
                _clean(packed),
            ),
            "bundle_import": compare(
                command(importing, environment(there)),
                command(["sh", "-c", UNPACK, "sh", str(packed), str(unpacked)]),
                rounds,
                TIME_GOAL,
                _clean(there.home),
                _clean(unpacked),
            ),
        }
        _clean(there.home)()
        peaks = {
            "export": _peak_bytes(export, environment(here)),
            "import": _peak_bytes(importing, environment(there)),
        }
        return {**figures, "bundle_memory": _memory(peaks)}


def _fill(storage: Storage, gibibytes: int) -> None:
    mebibytes = 1024 // FILES_A_GIBIBYTE
    for _ in range(gibibytes * FILES_A_GIBIBYTE):
        storage.blobs.add(os.urandom(1 << 20) for _ in range(mebibytes))


def _clean(path: Path) -> Run:
    """Removes what a run made, and has the disk come to rest."""

    def run() -> None:
        if path.is_dir():
            subprocess.run(["chmod", "-R", "u+w", path], check=True)  # nosec B607
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        os.sync()

    return run


def _peak_bytes(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """The most memory that a command ever had (its resident set)."""
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return usage.ru_maxrss * 1024


def _memory(peaks: dict[str, int]) -> dict[str, Any]:
    shares = {name: round(peak / (1 << 20)) for name, peak in peaks.items()}
    return {
        "ratio": round(max(peaks.values()) / MEMORY_GOAL_BYTES, 3),
        "goal": 1.0,
        **{f"{name}_mebibytes": share for name, share in shares.items()},
    }
