"""YAML of strangers is read as it was meant, or refused before it costs anything."""

import tracemalloc
from pathlib import Path

import pytest

from medperf_client.containers.spec import parse
from medperf_client.errors import InvalidContainer, UsageError
from medperf_client.execution.compatibility import read_yaml
from medperf_client.settings.config import Profile, load_config
from medperf_client.strict_yaml import read, read_results
from tests.support.consortium import Member

# Nine times as much a line: 22 lines stand for 10**20 values.
DOUBLED = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 22)
)
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 22)
)
TWICE = """active: a
profiles:
  a:
    server_url: http://one:1
    task_timeout: 600
  a:
    server_url: http://two:2
"""
LARGE = {
    "doubled by aliases": (DOUBLED, "with its aliases resolved"),
    "doubled by merge keys": (MERGED, "with its aliases resolved"),
    "75 kB of aliases": (
        "a: &a [" + "x, " * 12_000 + "x]\nb: [" + "*a, " * 9_000 + "*a]",
        "with its aliases resolved",
    ),
    "a long text again and again": (
        f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 1_000}*a]",
        "with its aliases resolved",
    ),
    "many values": ("- x\n" * 900_000, "larger than 100000 values"),
    "many folds": ("[" * 100_000, "nesting"),
    "a list of itself": ("a: &a [*a]", "holds itself"),
    "a mapping of itself": ("&a {b: {c: *a}}", "holds itself"),
    "too much text": ("x" * (5 << 20), "larger than 4194304 bytes"),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_would_be_large_is_refused_before_it_is(name: str) -> None:
    text, said = LARGE[name]
    tracemalloc.start()
    with pytest.raises(ValueError, match=said):
        read(text.encode())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("a: {b: 1, 'b': 2}", "the key 'b' is there twice"),
        ("16: a\n0x10: b", "the key '0x10' is there twice"),
        ("<<: {a: 1}\n<<: {b: 2}", "the key '<<' is there twice"),
        ("- !!set {a, a}", "the key 'a' is there twice"),
        ("a: 0x" + "f" * 4000, "a number of more than 4000 digits"),
        ("? 0x" + "f" * 4000 + "\n: a", "a number of more than 4000 digits"),
        ("a: " + "1:" * 100_000 + "1", "a number of more than 4000 digits"),
        ("a: " + "1:" * 1_900 + "1.0", "too large"),
        ("a: 2026-99-99", "month must be in 1..12"),
        ("a: 0000-01-01", "year 0 is out of range"),
        ("a: !!timestamp never", "not what its tag says"),
        ("a: !!bool maybe", "not what its tag says"),
        ("a: !!int ''", "not what its tag says"),
        ("a: \ud800", "surrogates not allowed"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_what_could_be_misread_is_refused_in_plain_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read(text)
    assert len(str(caught.value)) < 300


def test_anchors_and_merge_keys_mean_what_they_say() -> None:
    text = "x: &x {k: 1, l: 1}\ny: {<<: *x, k: 2}\nz: {inner: &z {<<: *x, l: 3}}\nlast: [*x, *z]"
    assert read(text) == {
        "x": {"k": 1, "l": 1},
        "y": {"k": 2, "l": 1},
        "z": {"inner": {"k": 1, "l": 3}},
        "last": [{"k": 1, "l": 1}, {"k": 1, "l": 3}],
    }


def test_a_key_twice_is_refused_wherever_yaml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("active: a\nprofiles:\n  a: {}\n  a: {}")
    with pytest.raises(UsageError, match="the key 'a' is there twice"):
        load_config(file)
    with pytest.raises(InvalidContainer, match="the key 'a' is there twice"):
        read_yaml(file, "results")
    with pytest.raises(InvalidContainer, match="the key 'a' is there twice"):
        parse(file.read_bytes(), "container_config.yaml")
    with pytest.raises(UsageError, match="is not a value"):
        Profile().with_text("mirrors", "{http://a/: [http://b/], http://a/: []}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"loss": 1e-05}', 1e-05),
        ('{\n\t"loss": 1E+2\n}', 100.0),
        ("loss: 1e-05", 1e-05),
        ("loss: -2E10", -2e10),
        ("loss: .5e3", 500.0),
        ("loss: 1.0e-05", 1e-05),
        ('{"loss": NaN}', "NaN"),
        ("loss: .nan", "NaN"),
        ("loss: '1e-05'", "1e-05"),
        ('{"loss": "1e-05"}', "1e-05"),
        ('{"loss": "\\ud83d\\ude00"}', "\U0001f600"),
        ("loss: 2026-11-26", "2026-11-26"),
        ("loss: [" + "0, " * 99_000 + "0]", [0] * 99_001),
    ],
)
def test_a_number_of_json_is_a_number_in_results(text: str, value: object) -> None:
    assert read_results(text.encode()) == {"loss": value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('{"b": [{"a": 1, "\\u0061": 2}]}', "the key 'a' is there twice"),
        ("1: a\n1.0: b", "the key '1.0' is there twice"),
        ("1: a\ntrue: b", "the key 'true' is there twice"),
        ("1: a\n'1': b", "the key '1' is there twice"),
        ("null: a\n'null': b", "the key 'null' is there twice"),
        ('{"a": "\\ud83d"}', "surrogates not allowed"),
        ('{"a": ' + "9" * 5000 + "}", "a number of more than 4000 digits"),
        ('{"a": ' + "[" * 600 + "]" * 600 + "}", "nesting is deeper than 500"),
        ('{"a": ' + "[" * 90_000 + "]" * 90_000 + "}", "nesting is deeper than 500"),
        ('{"a": [' + "0," * 200_000 + "0]}", "larger than 100000 values"),
        ('{"a": "' + "x" * (4 << 20) + '"}', "larger than 4194304 bytes"),
        ("a: !!set {b, c}", "JSON has no form for a set"),
        ("a: !!binary aGVsbG8=", "JSON has no form for a bytes"),
    ],
)
def test_results_that_would_lose_something_are_refused(text: str, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        read_results(text.encode())


def test_a_configuration_is_read_as_medperf_reads_it() -> None:
    # MedPerf hands `1e-5` to the container as it is written.
    config = (
        "container_type: DockerImage\nimage: i\ntasks:\n  infer:\n    run_args:\n"
        "      command: [train, --rate, 1e-5]\n      environment: {RATE: 1e-5}\n"
    )
    task = parse(config, "container_config.yaml").task("infer")
    assert task.command == ("train", "--rate", "1e-5")
    assert task.environment == {"RATE": "1e-5"}


def test_a_profile_file_with_a_profile_twice_is_left_as_it_is(tmp_path: Path) -> None:
    member = Member(tmp_path / "home", "http://127.0.0.1:9")
    member.home.mkdir()
    file = member.home / "config.yaml"
    file.write_text(TWICE)
    done = member.run("profile", "set", "task_timeout", "5")
    assert done.returncode == 2 and "the key 'a' is there twice" in done.stderr
    assert file.read_text() == TWICE
