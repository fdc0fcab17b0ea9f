"""A home that can only be read: every command works there, or says so in one line before it begins.

Which does what is each command's own word; that it is true is tried on a real read-only mount.
"""

import json
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from medperf_cache.scratch import TEMPORARY
from medperf_client.cli import medperf
from medperf_client.cli.base import Command
from medperf_client.settings.config import Home
from tests.support.commands import COMMANDS, leaves, moved, words_of
from tests.support.consortium import Consortium, Member
from tests.support.disks import status, viewed
from tests.support.hospital import Hospital, released_by
from tests.support.reports import ALL_STEPS, ran, report_of

# What runs on a member's own data for the first time gives a result, which has to be kept.
RUNS_FIRST = ["result create -b 1 -d q6 -m 2", "benchmark run -b 1 -d q3 --no-cache"]
READS_MORE = [
    *("benchmark follow ls", "benchmark run -b 1 -d q3", "dataset ls --mine", "dataset view q6"),
    *("dataset view --output OUT/dataset.json q6", "key export --output OUT/key.pem", "queue ls"),
    *("result view --output OUT/result.json b1m2dq3", "result ls --mine", "storage verify --own"),
    "result review",
    *("benchmark run -b 1 -d q3 --keep-predictions OUT/predictions", "ledger view 2 --body"),
    *("test run -b 1 -m 2 --no-cache --json", "test run -b 1 -m 2 -m 2 --jobs 2 --no-cache"),
]
WRITES_MORE = [
    *(RUNS_FIRST[1], "benchmark follow -b 1 -d q3 --stop"),
    *("dataset review q3 --redact x", "result review b1m2dq3 --undo x", "storage verify --remove"),
    "test run -b 1 --data_path DATA/lakeside/measurements --labels_path DATA/lakeside/diagnoses",
]


def command_of(words: Sequence[str]) -> tuple[Command, list[str]]:
    """A command of the tree by the words that call it, and the words that follow."""
    found: click.Command = medperf
    context, rest = click.Context(medperf), [*words]
    while isinstance(found, click.Group):
        named = found.get_command(context, rest.pop(0))
        assert named is not None, words
        found, context = named, click.Context(named, context)
    assert isinstance(found, Command)
    return found, rest


def writes(words: Sequence[str]) -> bool:
    """Whether a command says that it changes the home, called like this."""
    command, rest = command_of(words)
    return command.writes(command.make_context("medperf", rest).params)


@pytest.fixture(scope="module")
def closed(waiting: Member, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member whose home holds something for each command, and can only be read."""
    folder = tmp_path_factory.mktemp("closed")
    member = moved(waiting, folder / "home")
    (folder / "tmp").mkdir()
    member.environment["TMPDIR"] = str(folder / "tmp")
    with viewed(member.home, member.home):
        yield member


def called(command: str, consortium: Consortium, folder: Path) -> list[str]:
    """The words of a command; what it writes elsewhere than in the home is put in a folder."""
    return words_of(command.replace("OUT", str(folder)), consortium, folder)


@pytest.mark.parametrize("command", [*COMMANDS, *READS_MORE, *WRITES_MORE])
def test_every_command_reads_or_says_that_it_cannot_write(
    consortium: Consortium,
    closed: Member,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = called(command, consortium, tmp_path)
    monkeypatch.chdir(closed.home.parent)
    done = closed.run(*words, "--offline")
    assert "Traceback" not in done.stderr
    if writes(words) or command in RUNS_FIRST:
        assert done.returncode == 1 and done.stdout == "", done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"Error: {closed.home} can only be read") and "MEDPERF_HOME" in line
        # Of what runs first, it was looked which models there are.
        assert done.stderr.count("\n") == 1 or command in RUNS_FIRST
    else:
        assert done.returncode == 0, done.stderr
        assert "can only be read" not in done.stderr or command.startswith("test run")


def test_every_command_that_can_read_is_tried_reading(
    consortium: Consortium, closed: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(closed.home.parent)
    tried = [called(one, consortium, tmp_path) for one in [*COMMANDS, *READS_MORE]]
    reading = [words for words in tried if not writes(words)]
    untried = [
        name
        for name in leaves(medperf, "")
        if command_of(name.split())[0]._writes is not True
        and not any(words[: len(name.split())] == name.split() for words in reading)
    ]
    assert untried == []


def left_in(member: Member) -> list[str]:
    """What lies among the temporary files of a member."""
    return sorted(path.name for path in Path(member.environment["TMPDIR"]).iterdir())


@pytest.fixture
def reader(prepared: Member, tmp_path: Path) -> Member:
    """The prepared member with a home, and a folder for temporary files, of the test's own."""
    member = moved(prepared, tmp_path / "home")
    (tmp_path / "tmp").mkdir()
    member.environment["TMPDIR"] = str(tmp_path / "tmp")
    return member


def test_a_test_runs_and_leaves_its_report_elsewhere(reader: Member) -> None:
    expected = report_of(reader, 2, "--offline")
    before = status(reader.home)
    with viewed(reader.home, reader.home):
        assert report_of(reader, 2, "--offline")["results"] == expected["results"]
        words = ("test", "run", "-b", "1", "-m", "2", "--no-cache", "--json", "--offline")
        done = reader.run(*words)
        report = json.loads(done.stdout)
        assert ran(report) == ALL_STEPS and report["results"] == expected["results"]
        listed = reader.json("test", "ls", "--offline")
        assert expected["uid"] in [one["uid"] for one in listed]
        assert report["uid"] not in [one["uid"] for one in listed]
    (folder,) = re.findall(r"report and logs will be in (\S+)", done.stderr)
    assert json.loads((Path(folder) / f"{report['uid']}.json").read_text()) == report
    assert (Path(folder) / report["uid"] / "infer.log").is_file()
    assert [name for name in left_in(reader) if not name.startswith("medperf-reports-")] == []
    assert status(reader.home) == before


def test_what_a_killed_test_left_among_temporary_files_goes_with_the_next(
    reader: Member,
) -> None:
    words = ("test", "run", "-b", "1", "-m", "2", "--no-cache", "--offline")
    with viewed(reader.home, reader.home):
        process = reader.start(*words)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("infer of container 2 (model_logistic): running"):
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert any(name.startswith(TEMPORARY) for name in left_in(reader))
        stranger = Path(reader.environment["TMPDIR"]) / f"{TEMPORARY}link"
        stranger.symlink_to(reader.home)
        assert reader.run(*words).returncode == 0
    assert [name for name in left_in(reader) if name.startswith(TEMPORARY)] == [stranger.name]
    assert (reader.home / "config.yaml").exists()


def test_damage_is_found_and_has_to_wait(reader: Member) -> None:
    (blob, *_) = (reader.home / "cache" / "blobs").glob("??/*")
    blob.chmod(0o600)
    blob.write_bytes(b"rotten")
    with viewed(reader.home, reader.home):
        found = reader.run("storage", "verify")
        assert found.returncode == 1 and blob.name in found.stdout
        told = reader.run("storage", "verify", "--remove")
        assert told.returncode == 1 and "can only be read" in told.stderr and told.stdout == ""
    assert reader.run("storage", "verify", "--remove").returncode == 0


def test_a_home_without_content_runs_on_a_shared_cache(reader: Member, tmp_path: Path) -> None:
    cache = (reader.home / "cache").rename(tmp_path / "shared")
    reader.does("profile", "set", "shared_caches", f"[{cache}]")
    (reader.home / "cache").mkdir()
    before = status(cache)
    with viewed(reader.home, reader.home):
        assert reader.json("benchmark", "status", "1", "--offline")["ready"]
        state = reader.json("storage", "status")
        assert not state["writable"] and state["blobs"] == 0 and state["shared"][0]["blobs"] > 0
        assert "can only be read" in reader.does("storage", "status")
        assert ran(report_of(reader, 2, "--offline")) == ALL_STEPS
    # When it was used is not even noted.
    assert status(cache) == before


def test_the_registry_is_read_and_the_copy_stays_as_it_is(
    consortium: Consortium, tmp_path: Path
) -> None:
    member = consortium.member("reads-only")
    member.does("benchmark", "ls")
    with viewed(member.home, member.home):
        done = member.run("benchmark", "ls")
        assert done.returncode == 0 and "breast-cancer" in done.stdout
        assert done.stderr.count("\n") <= 1, done.stderr
        # What was never here is fetched for this one time.
        assert ran(report_of(member, consortium.candidate)) == ALL_STEPS
        assert member.json("storage", "ls")["items"] == []


def test_news_are_looked_at_and_not_kept(
    own_consortium: Consortium, hospital: Hospital, tmp_path: Path
) -> None:
    result = released_by(hospital)
    member, uid = hospital.member, str(result["dataset"])
    elsewhere = hospital.elsewhere("elsewhere").member
    member.environment["TMPDIR"] = str(tmp_path)
    before = status(member.home)
    with viewed(member.home, member.home):
        elsewhere.does("key", "revoke", "1", "-y")
        for words in (("key", "ls"), ("result", "verify", str(result["id"]))):
            done = member.run(*words)
            assert done.returncode == 0 and "as it was" not in done.stderr, done.stderr
            (key,) = elsewhere.json("key", "ls")
            assert key["revoked_at"] and key["revoked_at"][:16] in done.stdout
        # What is there is shown, also where the list of models has to be asked for.
        (outcome,) = member.json("benchmark", "run", "-b", "1", "-d", uid)
        assert outcome["result"] == f"b1m{result['model']}d{uid}" and outcome["from_cache"]
        assert not list(tmp_path.glob(f"{TEMPORARY}*"))
    assert status(member.home) == before
    (key,) = member.json("key", "ls", "--offline")
    assert key["revoked_at"] is None


def test_a_folder_of_another_user_is_as_good_as_read_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "nowhere" / "home", tmp_path / "cache")
    assert home.is_writable
    with viewed(tmp_path, tmp_path):
        assert not home.is_writable and not Home(tmp_path, tmp_path / "cache").is_writable
