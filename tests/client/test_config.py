"""Profiles and settings: what is wrong is named, what is written is whole and private."""

import json
import os
import pwd
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medperf_client.errors import MedPerfError, UsageError
from medperf_client.executors.executor import executor_of
from medperf_client.settings.config import Home, Profile, load_config, save_config
from medperf_client.settings.credentials import Credentials
from medperf_client.site import Site
from tests.support import forks
from tests.support.consortium import Member
from tests.support.forks import ROOT

# A user ID that nobody has.
NAMELESS = 54321
# What is imported later is imported before: this user may not read the sources everywhere.
BECOME_NAMELESS = f"""
import difflib, os
from tests.support import forks
forks.preload("medperf_client")
from medperf_client.cli import main
os.setgroups([])
os.setresgid({NAMELESS}, {NAMELESS}, {NAMELESS})
os.setresuid({NAMELESS}, {NAMELESS}, {NAMELESS})
main()
"""
URL = "https://registry.example.org"


@pytest.fixture
def stranger(tmp_path: Path) -> Member:
    """Somebody with an empty home and no registry that answers."""
    return Member(tmp_path / "home", "http://127.0.0.1:1", token="mpf_stranger")


def test_the_example_configuration_is_valid() -> None:
    config = load_config(ROOT / "config.example.yaml")
    assert config.active == "consortium" and set(config.profiles) == {"consortium", "laptop"}
    # Every setting there is is explained in it.
    text = (ROOT / "config.example.yaml").read_text()
    assert all(f"{name}:" in text for name in Profile.__dataclass_fields__)


def test_a_profile_shows_what_its_platform_cannot_hold(stranger: Member) -> None:
    for platform, said in (
        ("apptainer", "CUDA_VISIBLE_DEVICES says which to use"),
        ("process", "nothing is isolated"),
    ):
        stranger.does("profile", "set", "platform", platform)
        shown = stranger.json("profile", "view")
        assert (shown["platform"], shown["runs_on"]) == (platform, platform)
        assert any(said in line for line in shown["not_held"])
        text = stranger.does("profile", "view")
        assert f"On {platform}, otherwise than on Docker:" in text and said in text
    stranger.does("profile", "set", "platform", "docker")
    assert stranger.json("profile", "view")["not_held"] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00 odd bytes", "cannot be read"),
        (b"profiles: [", "cannot be read"),
        (b"profiles: 2026-99-99", "cannot be read"),
        (b"[" * 20000, "cannot be read"),
        (b"just text", "expected the keys 'active' and 'profiles'"),
        (b"profiles: 7", "expected the keys 'active' and 'profiles'"),
        (b"active: [x]\nprofiles: {a: {}}", "active is \"['x']\""),
        (b"active: b\nprofiles: {a: {}}", "There are: a."),
        (b"active: a\nprofiles: {a: 7}", "profile a: expected settings, found 7"),
        (b"active: a\nprofiles: {a: {colour: red}}", "there is no setting 'colour'"),
        (b"active: a\nprofiles: {a: {allow_process: 1}}", "expects true or false, found 1"),
        (b"active: a\nprofiles: {a: {platform: nix}}", "auto, docker, podman, apptainer, process"),
        (b"active: a\nprofiles: {a: {platform: [docker]}}", "expects one of auto"),
        (b"active: a\nprofiles: {a: {connect_timeout: true}}", "expects seconds, found True"),
        (b"active: a\nprofiles: {a: {connect_timeout: 0}}", "expects seconds, found 0"),
        (b"active: a\nprofiles: {a: {connect_timeout: .nan}}", "expects seconds, found nan"),
        (b"active: a\nprofiles: {a: {read_timeout: .inf}}", "expects seconds, found inf"),
        (b"active: a\nprofiles: {a: {server_url: ftp://x}}", "is not a registry's URL"),
        (b"active: a\nprofiles: {a: {server_url: 'http://u:p@x'}}", "is not a registry's URL"),
        (b'active: a\nprofiles: {a: {server_url: "http://x\\e[2J"}}', "is not a registry's URL"),
    ],
)
def test_a_wrong_configuration_is_a_usage_error_that_names_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_config(file)
    assert said in f"{caught.value} {caught.value.hint}" and str(file) in str(caught.value)


def test_a_wrong_configuration_ends_every_command_with_exit_code_2(stranger: Member) -> None:
    stranger.home.mkdir()
    (stranger.home / "config.yaml").write_text("profiles: [")
    for words in (("benchmark", "ls"), ("profile", "ls"), ("storage", "ls")):
        done = stranger.run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "config.yaml cannot be read" in done.stderr and "delete it" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_profile_is_made_used_changed_and_deleted(stranger: Member) -> None:
    del stranger.environment["MEDPERF_SERVER_URL"]
    assert stranger.json("profile", "ls") == {"active": "default", "profiles": ["default"]}
    stranger.does("profile", "create", "consortium", "--server-url", f"{URL}/")
    stranger.does("profile", "activate", "consortium")
    stranger.does("profile", "set", "task-timeout", "90.5")
    stranger.does("profile", "set", "allow_process", "true")
    settings = stranger.json("profile", "view")
    assert settings["server_url"] == URL and settings["task_timeout"] == 90.5
    assert settings["allow_process"] is True
    stranger.does("profile", "set", "task_timeout", "null", "--profile", "consortium")
    assert stranger.json("profile", "view", "consortium")["task_timeout"] is None
    refused = stranger.run("profile", "delete", "consortium")
    assert refused.returncode == 2 and "medperf profile activate" in refused.stderr
    stranger.does("profile", "activate", "default")
    stranger.does("profile", "delete", "consortium")
    assert stranger.json("profile", "ls")["profiles"] == ["default"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "colour", "red"), "The settings are server_url, platform, allow_process"),
        (("set", "connect_timeout", "2026-99-99"), "is not a value"),
        (("activate", "nobody"), "There are: default."),
        (("set", "server_url", "http://a..b/"), "no host can be called 'a..b'"),
        (("set", "server_url", "https://h:99999"), "Port out of range"),
        (("set", "mirrors", "{http://a/: [http://a..b/]}"), "no host can be called 'a..b'"),
        (("create", "\udcff"), "is not a name for a profile"),
    ],
)
def test_a_wrong_setting_changes_nothing(
    stranger: Member, words: tuple[str, ...], said: str
) -> None:
    done = stranger.run("profile", *words)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (stranger.home / "config.yaml").exists()


def test_a_configuration_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    save_config(load_config(file), file)
    before = file.read_bytes()
    with pytest.raises(MedPerfError, match="cannot write"):
        save_config(load_config(file), tmp_path / "config.yaml" / "inside")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_two_registries_never_share_a_folder(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / "cache")
    urls = ["http://h/a/b", "http://h/a_b", "http://h/a:b", "https://h/a/b", "http://h/a%2Fb"]
    assert len({home.registry(url) for url in urls}) == len(urls)


def test_the_file_of_tokens_is_its_owner_s_alone(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "new")
    credentials.store(URL, "mpf_one")
    credentials.store(f"{URL}/other", "mpf_two")
    file = tmp_path / "new" / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert credentials.token(URL) == "mpf_one"
    assert credentials.forget(URL) and not credentials.forget(URL)
    assert credentials.token(URL) is None and credentials.token(f"{URL}/other") == "mpf_two"


@pytest.mark.parametrize("content", ["[1]", '"x"', "{", f'{{"{URL}": 5}}', f'{{"{URL}": "a b"}}'])
def test_a_damaged_file_of_tokens_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "credentials.json").write_text(content)
    with pytest.raises(MedPerfError, match=r"credentials\.json"):
        Credentials(tmp_path).token(URL)


@pytest.mark.parametrize("token", ["mpf_a\nInjected: 1", "mpf_ä", "mpf a", "\x1b[2J"])
def test_a_token_with_odd_bytes_is_refused_and_not_shown(stranger: Member, token: str) -> None:
    stranger.environment["MEDPERF_TOKEN"] = token
    done = stranger.run("benchmark", "ls")
    assert done.returncode == 2 and "MEDPERF_TOKEN holds no token" in done.stderr
    assert token not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["0", "", "false", "No", "OFF", " off "])
def test_words_that_deny_it_mean_online(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
) -> None:
    monkeypatch.setenv("MEDPERF_OFFLINE", word)
    assert not Site(Home(tmp_path, tmp_path / "cache")).offline
    assert Site(Home(tmp_path, tmp_path / "cache"), offline=True).offline


@pytest.mark.parametrize("word", ["1", "true", "Yes", "ON"])
def test_words_that_affirm_it_mean_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
) -> None:
    monkeypatch.setenv("MEDPERF_OFFLINE", word)
    assert Site(Home(tmp_path, tmp_path / "cache")).offline


def test_a_word_that_says_neither_opens_no_connection(stranger: Member) -> None:
    stranger.environment["MEDPERF_OFFLINE"] = "flase"
    done = stranger.run("benchmark", "ls")
    assert done.returncode == 2 and "MEDPERF_OFFLINE: 'flase'" in done.stderr


@pytest.fixture
def nameless(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `medperf` as a user who has no home and no passwd entry, with these variables."""
    if os.geteuid() != 0:
        pytest.skip("only root may become a user who has no name")
    with pytest.raises(KeyError):
        pwd.getpwuid(NAMELESS)

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{forks.ordinary()['PYTHONPATH']}:{ROOT}",
        }
        return subprocess.run(
            [sys.executable, "-c", BECOME_NAMELESS, *words],
            env={**kept, "MEDPERF_SERVER_URL": "http://127.0.0.1:1", **variables},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="medperf-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


def test_a_user_without_a_home_is_asked_for_one(
    nameless: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for words in (("storage", "ls"), ("profile", "view"), ("benchmark", "ls")):
        done = nameless(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert "no home folder" in done.stderr and "Set MEDPERF_HOME" in done.stderr
    assert not Path("/~").exists()


def test_a_user_without_home_or_name_works_in_medperf_home(
    nameless: Callable[..., subprocess.CompletedProcess[str]], open_folder: Path
) -> None:
    place = {"MEDPERF_HOME": str(open_folder / "home"), "MEDPERF_TOKEN": "mpf_nameless"}
    (open_folder / "data").mkdir()
    roles = {"data_preparator": "-p", "model": "-m", "metrics": "-e"}
    containers = []
    for kind, option in roles.items():
        made = nameless("container", "create", kind, "-o", str(open_folder / kind), **place)
        assert made.returncode == 0, made.stderr
        containers += [option, str(open_folder / kind)]
    data = [f"--{name}={open_folder / 'data'}" for name in ("data-path", "labels-path")]
    for words in (
        ("profile", "view"),
        ("storage", "ls"),
        ("storage", "gc", "-y"),
        ("queue", "ls"),
        ("auth", "status"),
        ("container", "ls", "--offline"),
        ("container", "submit", "-n", "x", "-c", "~nobody-at-all/x.yaml"),
        # As far as the engine: where its settings are is asked of the home, too.
        ("test", "run", *data, *containers),
    ):
        done = nameless(*words, **place)
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2), done.stderr
        assert "home" not in done.stderr.replace(str(open_folder / "home"), ""), done.stderr


def test_a_home_that_cannot_be_is_named_with_the_way_out(stranger: Member) -> None:
    stranger.home.write_text("a file")
    for words in (("storage", "ls"), ("benchmark", "ls"), ("profile", "set", "memory", "1")):
        done = stranger.run(*words)
        assert done.returncode == 1 and str(stranger.home) in done.stderr
        assert "set MEDPERF_HOME" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "pbs", "shared_folder": "/scratch"}, "executor.kind expects slurm, found 'pbs'"),
        ({"kind": "slurm"}, "executor.shared_folder expects an absolute path"),
        ({"kind": "slurm", "shared_folder": "here"}, "executor.shared_folder expects an absolute"),
        ({"kind": ["slurm"], "shared_folder": "/scratch"}, "executor.kind expects slurm"),
        ({"kind": "slurm", "shared_folder": "/s", "folder": 1}, "no setting executor.folder"),
        ({"kind": "slurm", "shared_folder": "/s", "time": 3600}, "executor.time expects text"),
        ({"kind": "slurm", "shared_folder": "/s", "gpus": True}, "executor.gpus expects a number"),
        ({"kind": "slurm", "shared_folder": "/s", "setup": "module"}, "executor.setup expects"),
        (
            {"kind": "slurm", "shared_folder": "/s", "directives": {"-x; rm": "x"}},
            "the long name of an option",
        ),
        (
            {"kind": "slurm", "shared_folder": "/s", "directives": {"qos": ["a"]}},
            "executor.directives.qos expects text, a number, or true",
        ),
    ],
)
def test_an_executor_that_cannot_be_is_refused_by_name(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"active": "a", "profiles": {"a": {"executor": settings}}}))
    with pytest.raises(UsageError, match=re.escape(said)):
        load_config(file)


def test_an_executor_is_kept_as_it_was_written(tmp_path: Path) -> None:
    settings = {
        "kind": "slurm",
        "shared_folder": "/scratch/me",
        "time": "12:00:00",
        "directives": {"qos": "long", "exclusive": True, "nice": 10},
        "setup": ["module load apptainer"],
    }
    file = tmp_path / "config.yaml"
    changed = Profile().with_text("executor", json.dumps(settings))
    save_config(load_config(file).with_profile("default", changed), file)
    assert load_config(file).profile.executor == settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shared_folder": "/a%j"}, "executor.shared_folder expects no % and no \\, found '/a%j'"),
        (
            {"shared_folder": "/s", "directives": {"comment": "x"}},
            "executor.directives.comment expects an option that is not the client's own",
        ),
    ],
)
def test_what_a_kind_of_queue_cannot_have_is_refused_by_name(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        executor_of({"kind": "slurm", **settings})
