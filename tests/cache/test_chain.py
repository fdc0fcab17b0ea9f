"""A log whose lines are chained: what was done to it is found, and no whole line is ever lost."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medperf_cache.chain import HEAD_BYTES, Chain
from medperf_cache.errors import NotCached, NotWritable
from tests.support.disks import full, read_only, small_disk  # noqa: F401
from tests.support.forks import IMPORT_ROOTS

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "6"))


def chain_in(folder: Path) -> Chain:
    return Chain(folder / "log", folder / "log.head", lambda: {"event": "began"})


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A log of five lines, the fourth of which has content beside it."""
    chain = chain_in(tmp_path)
    for word in ("one", "two"):
        chain.append({"word": word})
    chain.append({"word": "three", "kept": [chain.keep(b"large")]})
    chain.append({"word": "four"})
    return chain


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """The file of its lines."""
    return tmp_path / "log" / "lines.jsonl"


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Its head file."""
    return tmp_path / "log.head"


def edit(file: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))


def test_lines_are_numbered_chained_and_found_again(chain: Chain, lines: Path) -> None:
    found = list(chain.lines())
    assert [line.number for line in found] == [1, 2, 3, 4, 5]
    assert [line.record.get("word") for line in found] == [None, "one", "two", "three", "four"]
    assert [one.record["previous"] for one in found] == ["0" * 64, *(one.digest for one in found)][
        :-1
    ]
    verdict = chain.verify()
    assert (verdict.lines, verdict.findings, verdict.notes) == (5, [], [])
    assert verdict.last and (verdict.last.number, verdict.last.digest) == (5, found[-1].digest)
    assert chain.kept(found[3].record["kept"][0]) == b"large"
    assert lines.stat().st_mode & 0o777 == 0o600 and lines.parent.stat().st_mode & 0o777 == 0o700


def test_what_never_was_has_nothing_wrong_with_it(tmp_path: Path) -> None:
    chain = chain_in(tmp_path)
    assert not chain.exists and list(chain.lines()) == []
    verdict = chain.verify()
    assert (verdict.lines, verdict.last, verdict.findings) == (0, None, [])
    assert list(tmp_path.iterdir()) == []
    assert chain.verify((3, "a" * 64)).findings == ["line 3, which was noted elsewhere, is gone"]


HEAD_SAYS = "cut from the end: the head file counts 5 lines"


@pytest.mark.parametrize(
    ("change", "findings"),
    [
        (
            lambda all: [one.replace(b"two", b"TWO") for one in all],
            ["line 3 was changed: line 4 has another digest of it"],
        ),
        (
            lambda all: [*all[:4], all[4].replace(b"four", b"FOUR")],
            ["line 5 was changed: the head file has another digest of it"],
        ),
        (
            lambda all: [all[0].replace(b"began", b"BEGAN"), *all[1:]],
            ["line 1 was changed: line 2 has another digest of it"],
        ),
        # What a changed line says of the line before it counts for nothing.
        (
            lambda all: (
                [*all[:2], all[2].replace(json.loads(all[2])["previous"].encode(), b"a" * 64)]
                + all[3:]
            ),
            ["line 3 was changed: line 4 has another digest of it"],
        ),
        (lambda all: [*all[:2], *all[3:]], ["line 3 is gone"]),
        (lambda all: [all[0], *all[3:]], ["lines 2 to 3 are gone"]),
        (lambda all: all[1:], ["line 1 is gone"]),
        (lambda all: all[:4], [f"line 5 is gone, {HEAD_SAYS}"]),
        (lambda all: all[:2], [f"lines 3 to 5 are gone, {HEAD_SAYS}"]),
        (lambda all: [], [f"lines 1 to 5 are gone, {HEAD_SAYS}"]),
        (
            lambda all: [*all[:4], all[4][:20]],
            [f"line 5 is gone, {HEAD_SAYS}"],
        ),
        (
            lambda all: [all[0], all[2], all[1], *all[3:]],
            ["line 2 stands after line 3: the order was changed"],
        ),
        (
            lambda all: [*all[:3], all[2], *all[3:]],
            ["line 3 is there more than once"],
        ),
        (
            lambda all: [*all[:2], b"no line\n", *all[3:]],
            ["line 3 was changed: it is no line any more"],
        ),
        (
            lambda all: [*all[:2], b"no line\n", *all[2:]],
            ["what stands after line 2 is no line"],
        ),
    ],
)
def test_each_way_to_tamper_is_found_by_name(
    chain: Chain,
    lines: Path,
    change: Callable[[list[bytes]], list[bytes]],
    findings: list[str],
) -> None:
    edit(lines, change)
    verdict = chain.verify()
    assert (verdict.findings, verdict.notes) == (findings, [])
    # Nor does it go away with what is written later.
    chain.append({"word": "later"})
    chain.append({"word": "last"})
    later = chain.verify()
    gone = [one.partition(", cut")[0] for one in findings]
    assert [one.partition(":")[0] for one in later.findings] == [
        one.partition(":")[0] for one in gone
    ]
    assert [line.record.get("word") for line in chain.lines()][-2:] == ["later", "last"]


def test_a_line_that_was_added_by_hand_is_found(chain: Chain, lines: Path) -> None:
    known = list(chain.lines())
    forged = {"number": 5, "previous": known[3].digest, "word": "forged"}
    edit(lines, lambda all: [*all[:4], json.dumps(forged).encode() + b"\n", all[4]])
    assert chain.verify().findings == [
        "line 5 is there more than once",
        "line 5 was changed: the head file has another digest of it",
    ]


def test_content_that_is_gone_or_changed_is_found_by_its_line(chain: Chain, tmp_path: Path) -> None:
    (digest,) = [one for line in chain.lines() for one in line.record.get("kept", ())]
    (file,) = (tmp_path / "log" / "content").glob("??/*")
    file.write_bytes(b"Large")
    assert chain.verify().findings == [f"line 4: its content {digest} was changed"]
    with pytest.raises(NotCached, match="was changed"):
        chain.kept(digest)
    file.unlink()
    assert chain.verify().findings == [f"line 4: its content {digest} is gone"]
    with pytest.raises(NotCached, match="is gone"):
        chain.kept(digest)


def test_a_head_that_is_gone_or_of_another_log_is_told(chain: Chain, head: Path) -> None:
    text = head.read_text()
    assert len(text) == HEAD_BYTES
    head.write_text("{}")
    assert chain.verify().findings[0].startswith("the head file cannot be read: whether")
    head.unlink()
    assert chain.verify().findings[0].startswith("the head file is gone: whether")
    chain.append({"word": "later"})
    assert chain.verify().findings == [
        "line 6: the head file was gone or unreadable, and was made anew"
    ]


def test_all_of_it_written_anew_is_found_with_a_line_that_was_noted(
    chain: Chain, tmp_path: Path, lines: Path, head: Path
) -> None:
    verdict = chain.verify()
    assert verdict.last is not None
    noted = (verdict.last.number, verdict.last.digest)
    chain.append({"word": "later"})
    assert chain.verify(noted).findings == []
    lines.unlink()
    head.unlink()
    for word in ("one", "TWO", "three", "four", "later"):
        chain.append({"word": word})
    assert chain.verify().findings == []
    assert chain.verify(noted).findings == ["line 5 is not the one that was noted elsewhere"]
    assert chain.verify((9, "0" * 64)).findings == ["line 9, which was noted elsewhere, is gone"]


@pytest.mark.parametrize("left", [1, 30, 100])
def test_a_torn_last_line_is_mended_and_told_and_is_no_tampering(
    chain: Chain, lines: Path, head: Path, left: int
) -> None:
    before, was = lines.read_bytes(), head.read_bytes()
    chain.append({"word": "five"})
    whole = lines.read_bytes()
    # As a kill leaves it: the head never learnt of it.
    head.write_bytes(was)
    lines.write_bytes(whole[: len(before) + left])
    verdict = chain.verify()
    assert verdict.findings == [] and "after line 5 there is a torn one" in verdict.notes[0]
    number, mends = chain.append({"word": "six"})
    assert number == 7 and f"a torn last line of {left} bytes" in mends[0]["mended"]
    assert lines.read_bytes().startswith(before)
    verdict = chain.verify()
    assert verdict.findings == [] and "line 6: a torn last line" in verdict.notes[0]


def test_a_whole_line_that_lacks_its_line_feed_is_kept(
    chain: Chain, lines: Path, head: Path
) -> None:
    was = head.read_bytes()
    chain.append({"word": "five"})
    head.write_bytes(was)
    lines.write_bytes(lines.read_bytes()[:-1])
    assert chain.verify().findings == []
    assert chain.append({"word": "six"}) == (7, [])
    assert [line.record.get("word") for line in chain.lines()][-2:] == ["five", "six"]
    assert chain.verify().findings == [] == chain.verify().notes


def test_a_head_that_lags_behind_is_no_harm(chain: Chain, head: Path) -> None:
    was = head.read_bytes()
    for word in ("five", "six"):
        chain.append({"word": word})
    head.write_bytes(was)
    verdict = chain.verify()
    assert verdict.findings == [] and "counts 5 lines of 7" in verdict.notes[0]
    assert chain.append({"word": "seven"}) == (8, [])
    assert chain.verify().findings == [] == chain.verify().notes


PROGRAM = """
import sys
from pathlib import Path
from medperf_cache.chain import Chain
folder = Path(sys.argv[1])
chain = Chain(folder / "log", folder / "log.head", lambda: {"event": "began"})
for number in range(int(sys.argv[3])):
    kept = [chain.keep(f"{sys.argv[2]} {number}".encode() * 1000)] if number % 5 == 0 else []
    record = {"word": f"{sys.argv[2]} {number}", "filler": "x" * (number % 7 * 500), "kept": kept}
    print(chain.append(record)[0], number, flush=True)
"""


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    words = [sys.executable, "-c", PROGRAM, str(folder), name, str(count)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_share_one_chain(tmp_path: Path) -> None:
    writers = {name: writer(tmp_path, name, 40) for name in ("a", "b", "c")}
    told = {
        (name, *map(int, line.split()))
        for name, process in writers.items()
        for line in process.communicate()[0].splitlines()
    }
    chain = chain_in(tmp_path)
    found = list(chain.lines())
    assert {(*line.record["word"].split(), line.number) for line in found[1:]} == {
        (name, str(one), number) for name, number, one in told
    }
    assert [line.number for line in found] == list(range(1, 122))
    assert chain.verify().findings == [] == chain.verify().notes


def test_killed_writers_lose_no_line_that_they_were_told_of(tmp_path: Path) -> None:
    chance, chain, killed = random.Random(15), chain_in(tmp_path), 0
    for round in range(KILLS):
        process = writer(tmp_path, f"round-{round}", 100_000)
        assert process.stdout is not None
        told = [process.stdout.readline()]
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        told += process.communicate()[0].splitlines()
        killed += process.returncode == -signal.SIGKILL
        verdict = chain.verify()
        assert verdict.findings == []
        known = {line.number: line.record.get("word") for line in chain.lines()}
        for number, one in (map(int, line.split()) for line in told if " " in line.strip()):
            assert known[number] == f"round-{round} {one}"
    assert killed == KILLS


def test_a_full_disk_takes_no_line_and_loses_none(small_disk: Path) -> None:  # noqa: F811
    chain = chain_in(small_disk)
    chain.append({"word": "one"})
    before = (small_disk / "log" / "lines.jsonl").read_bytes()
    with full(small_disk):
        with pytest.raises(NotWritable, match="lines.jsonl cannot be written: No space left"):
            for _ in range(100):
                chain.append({"word": "x" * 1000})
        with pytest.raises(NotWritable, match="content cannot be written: No space left"):
            chain.keep(bytes(10_000))
        assert (small_disk / "log" / "lines.jsonl").read_bytes().startswith(before)
        assert chain.verify().findings == []
        assert list((small_disk / "log" / "content").glob(".new-*")) == []
    number = chain.append({"word": "after"})[0]
    assert chain.verify().lines == number and chain.verify().findings == []


def test_a_line_that_the_disk_does_not_confirm_does_not_count(
    chain: Chain, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lines.read_bytes()

    def fail(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(NotWritable, match="cannot be written: Input/output error"):
            chain.append({"word": "lost"})
    assert lines.read_bytes() == before and chain.verify().findings == []
    assert chain.append({"word": "five"}) == (6, [])


def test_a_log_that_may_only_be_read_is_read(small_disk: Path) -> None:  # noqa: F811
    chain = chain_in(small_disk)
    chain.append({"word": "one"})
    with read_only(small_disk):
        assert [line.record.get("word") for line in chain.lines()] == [None, "one"]
        assert (chain.verify().lines, chain.verify().findings) == (2, [])
        with pytest.raises(NotWritable, match="cannot be written: Read-only file system"):
            chain.append({"word": "two"})
    assert chain.append({"word": "two"}) == (3, [])


def test_an_append_costs_one_sync_and_a_look_takes_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, synced = chain_in(tmp_path), []
    chain.append({"word": "one"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", synced.append)
        chain.append({"word": "two"})
        assert len(synced) == 1
        patch.setattr(os, "fsync", lambda file: None)
        began = time.perf_counter()
        for number in range(10_000):
            chain.append({"word": number, "body": "x" * 300})
        appended = time.perf_counter() - began
    began = time.perf_counter()
    verdict = chain.verify()
    took = time.perf_counter() - began
    assert verdict.lines == 10_003 and verdict.findings == []
    # A few tenths of a second, and some ten times that for the lines; this machine may be busy.
    assert took < 5 and appended < 30


def test_a_log_behind_a_link_to_nowhere_was_there(tmp_path: Path) -> None:
    log = chain_in(tmp_path)
    assert not log.exists
    (tmp_path / "log.head").symlink_to(tmp_path / "unmounted" / "head")
    assert log.exists
    with pytest.raises(NotWritable):
        log.append({"event": "sent"})
