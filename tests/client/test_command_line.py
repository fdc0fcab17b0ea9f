"""The command itself: help, spellings, exit codes, streams, signals, completion."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from medperf_client.cli import medperf
from medperf_client.kinds import kind_of
from tests.support.badhost import answer, bad_host
from tests.support.consortium import Consortium, Member
from tests.support.terminal import read_terminal

HEAVY = ("yaml", "requests", "urllib3", "rich", "docker", "diskcache", "sqlite3", "flask", "json")


def leaves(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below one that can be run, with the words that name it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, *path, name)


LEAVES = list(leaves(medperf))


@pytest.fixture
def stranger(tmp_path: Path) -> Member:
    """Somebody with an empty home and no registry that answers."""
    return Member(tmp_path / "home", "http://127.0.0.1:1", token="mpf_stranger")


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_command_shows_an_example_of_itself(
    path: tuple[str, ...], command: click.Command
) -> None:
    text = command.get_help(click.Context(command, info_name=path[-1]))
    examples = text.partition("Example:")[2].partition("Options:")[0]
    assert re.search(rf"medperf {' '.join(path)}".replace("-", "[-_]"), examples), text
    assert "--offline" in text


@pytest.mark.parametrize("kind", ["mlcube", "benchmark", "dataset", "result", "key"])
def test_what_is_not_there_is_listed_by_a_command_that_is(kind: str) -> None:
    names = {" ".join(path) for path, _ in LEAVES}
    assert f"{kind_of(kind).group} ls" in names


@pytest.mark.parametrize("words", [["--help"], ["container", "--help"], ["test", "run", "-h"]])
def test_help_imports_nothing_slow(stranger: Member, words: list[str]) -> None:
    program = (
        "import sys; from medperf_client.cli import medperf;"
        f"medperf.main({words!r}, 'medperf', standalone_mode=False);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**stranger.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == "[]\n" and "Usage: medperf" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "association set_priority --benchmark 1 --model_uid 1 --priority 3",
        "association set-priority --benchmark 1 --model-uid 1 --priority 3",
        "container associate --benchmark 1 --model_uid 1 --no_cache -y",
        "association ls --benchmark_model --status pending",
        "test run --benchmark 1 --data_preparator 1 --data_path . --labels-path .",
    ],
)
def test_dashes_and_underscores_are_the_same(stranger: Member, words: str) -> None:
    done = stranger.run(*words.split(), "--offline")
    # They are understood, and wait or fail for want of a registry only.
    assert done.returncode in (0, 1) and "working offline, as asked" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "mlcube associate --benchmark 1 --model_uid 1 -y",
        f"test run -b 1 --demo_dataset_url http://a/d.tar --demo_dataset_hash {'0' * 64}",
        "test run -b 1 --demo_dataset_url http://a/d.tar --skip-demo-data-preparation",
        f"mlcube submit -n a -m http://a/c.yaml --container-config-hash {'0' * 64}"
        f" --image-hash {'1' * 64} -y",
        "benchmark submit -n a -d b -u http://a/docs --demo-url http://a/d.tar -p 1 -m 2 -e 3 -y",
    ],
)
def test_words_of_medperf_s_command_line_are_understood(stranger: Member, words: str) -> None:
    done = stranger.run(*words.split(), "--offline")
    # As above.
    assert done.returncode in (0, 1) and "offline" in done.stderr, done.stderr


def test_the_hash_of_a_configuration_is_checked(stranger: Member, tmp_path: Path) -> None:
    config = tmp_path / "container_config.yaml"
    config.write_text("container_type: DockerImage\nimage: a\ntasks: {infer: {}}")
    words = ("-n", "a", "-m", str(config), "--container-config-hash", "0" * 64, "-y")
    done = stranger.run("container", "submit", *words)
    assert done.returncode == 1 and f"expected sha256 {'0' * 64}" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Usage: medperf"),
        (("bogus",), "No such command 'bogus'"),
        (("benchmark", "view", "9" * 5000), "'UID'"),
        (("test", "run", "--model", "1"), "--data_preparator, --evaluator"),
        (("test", "run", "-b", "1", "--data_path", "."), "are given together"),
        (("test", "view", "../../etc/passwd"), "there is no test '../../etc/passwd'"),
        (("test", "run", "--demo-hash", "abc"), "64 hexadecimal digits"),
        (("container", "create", "toaster"), "'toaster' is not one of"),
        (("container", "submit", "-n", "x", "-c", "http://x/\udcff"), "is not a URL"),
        (("benchmark", "ls", "\udcff"), "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_right(
    stranger: Member, words: tuple[str, ...], said: str
) -> None:
    done = stranger.run(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_path_that_is_not_utf_8_is_a_path(stranger: Member, tmp_path: Path) -> None:
    made = stranger.run("container", "create", "model", "--output", f"{tmp_path}/\udcff")
    assert made.returncode == 0 and made.stdout.startswith("Wrote ")
    config = f"{tmp_path}/\udcff/container_config.yaml"
    assert Path(config).is_file()
    again = stranger.run("container", "create", "model", "--output", f"{tmp_path}/\udcff")
    assert again.returncode == 2 and "Traceback" not in again.stderr


@pytest.mark.parametrize("words", ["profile ls", "auth status --json", "completion bash", "--help"])
def test_a_reader_who_left_is_no_traceback(stranger: Member, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        stranger.command(*words.split()),
        env=stranger.environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("words", "redirection"),
    [
        ("auth login", "<&-"),
        ("profile ls", ">&-"),
        ("benchmark ls", "2>&-"),
        ("bogus", "2>&-"),
        ("benchmark ls", "<&- >&- 2>&-"),
    ],
)
def test_closed_streams_are_no_traceback(stranger: Member, words: str, redirection: str) -> None:
    shell = f'exec "{sys.executable}" -m medperf_client {words} {redirection}'
    done = subprocess.run(
        ["bash", "-c", shell],
        env=stranger.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    expected = {"auth login": 2, "profile ls": 0, "benchmark ls": 1, "bogus": 2}[words]
    assert done.returncode == expected and "Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_an_error_in_one_line(
    stranger: Member, unbuffered: str
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            stranger.command("profile", "ls"),
            env={**stranger.environment, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: No space left on device") and len(done.stderr) < 200


def test_nobody_to_answer_a_question_sends_nothing(
    consortium: Consortium, newcomer: Member
) -> None:
    options = consortium.container_options("model_mlp")
    done = newcomer.run("container", "submit", "--name", "unasked", *options)
    assert done.returncode == 1 and done.stdout == ""
    assert "-y agrees beforehand" in done.stderr and "Nothing was sent." in done.stderr
    assert all(c["name"] != "unasked" for c in newcomer.json("container", "ls"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_130(stranger: Member, number: int) -> None:
    def asked_to_wait(_: str) -> bytes:
        process.send_signal(number)
        return answer("200 OK", b"{", "Content-Length: 1000000")

    with bad_host(asked_to_wait) as host:
        options = ("--container-config-file", f"{host.url}/container_config.yaml")
        process = stranger.start("container", "submit", "--name", "x", *options)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert "Interrupted. Nothing was left half-done." in err and "Traceback" not in err
    incoming = stranger.home / "cache" / "incoming"
    assert not incoming.exists() or list(incoming.iterdir()) == []


def test_a_result_reaches_a_file_while_progress_is_on_the_terminal(
    consortium: Consortium, newcomer: Member, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    model = str(consortium.candidate / "container_config.yaml")
    with (tmp_path / "report.json").open("w") as file:
        process = subprocess.Popen(
            newcomer.command("test", "run", "--benchmark", "1", "--model", model, "--json"),
            env={**newcomer.environment, "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=theirs,
        )
        os.close(theirs)
        shown = read_terminal(ours)
        assert process.wait(timeout=60) == 0, shown
    assert json.loads((tmp_path / "report.json").read_text())["passed"]
    assert f"evaluate of {model}: done" in shown and "demo_data.tar.gz" in shown


@pytest.fixture
def completed(stranger: Member, tmp_path: Path) -> Callable[[str], list[str]]:
    """What bash offers after a command line once it has loaded our script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "medperf").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medperf_client "$@"')
    (programs / "medperf").chmod(0o755)

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        script = (
            'eval "$(medperf completion bash)"; '
            f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}; "
            "_medperf_completion medperf; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(
            ["bash", "-c", script],
            env={**stranger.environment, "PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def test_bash_completes_groups_commands_and_options(
    completed: Callable[[str], list[str]],
) -> None:
    assert completed("medperf be") == ["benchmark"]
    assert completed("medperf association s") == ["set-priority"]
    assert completed("medperf container associate --m") == ["--model_uid"]
    assert "data_preparator" in completed("medperf container create ")


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "compdef"), ("fish", "complete --")])
def test_other_shells_get_a_script_too(stranger: Member, shell: str, mark: str) -> None:
    assert mark in stranger.does("completion", shell)
