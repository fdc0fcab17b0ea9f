"""Profiles and settings: what is wrong is named, what is written is whole and private."""

import stat
from pathlib import Path

import pytest

from medperf_client.errors import MedPerfError, UsageError
from medperf_client.settings.config import Home, Profile, load_config, save_config
from medperf_client.settings.credentials import Credentials
from tests.support.consortium import Member
from tests.support.registry import ROOT

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
        (("set", "colour", "red"), "The settings are server_url, allow_process"),
        (("set", "connect_timeout", "2026-99-99"), "is not a value"),
        (("activate", "nobody"), "There are: default."),
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


def test_a_home_that_cannot_be_is_named_with_the_way_out(stranger: Member) -> None:
    stranger.home.write_text("a file")
    for words in (("storage", "ls"), ("benchmark", "ls"), ("profile", "set", "memory", "1")):
        done = stranger.run(*words)
        assert done.returncode == 1 and str(stranger.home) in done.stderr
        assert "set MEDPERF_HOME" in done.stderr and "Traceback" not in done.stderr
