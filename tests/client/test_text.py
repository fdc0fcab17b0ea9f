"""Results for people and for scripts; the words of others do nothing but stand there."""

import json

import pytest

from medperf_client.cli.text import human_size, plain, print_entity, print_json, print_table

STEERING = "\x1b[2Jred\x9b31m\u202egnp\r\x07"


def test_a_table_is_aligned_and_shows_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("UID", "NAME"), [(1, "first"), (22, None), (3, "")])
    assert capsys.readouterr().out == "UID  NAME\n1    first\n22   -\n3    -\n"


def test_one_long_word_does_not_widen_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "STATE"), [("x" * 1_000_000, "a"), *[("y", "b")] * 1000])
    shown = capsys.readouterr().out
    assert len(shown) < 1_000_000 and "xxx…  a\n" in shown


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_is_no_number_is_a_word_in_json(
    capsys: pytest.CaptureFixture[str], value: object
) -> None:
    print_json({"value": value, "é": 1.5})
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["é"] == 1.5 and str(shown["value"]).strip("[]'{a: }") in (
        "NaN",
        "Infinity",
        "-Infinity",
    )


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [(STEERING,)])
    print_entity({"name": STEERING, STEERING: {STEERING: [STEERING]}, "lines": "a\nb"})
    shown = capsys.readouterr().out
    print_json({"name": STEERING})
    as_json = capsys.readouterr().out
    assert json.loads(as_json) == {"name": STEERING}
    assert all(char.isprintable() or char == "\n" for char in shown + as_json)
    assert "lines: a b" in shown


def test_messages_keep_their_lines() -> None:
    assert plain("one\ntwo\x1b[1m") == "one\ntwo [1m"


@pytest.mark.parametrize(
    ("entity", "shown"),
    [
        ({"a": None, "b": "", "c": {}, "d": [], "e": 0}, "e: 0\n"),
        ({"a": {"b": {"c": 1}}}, "a:\n  b:\n    c: 1\n"),
        ({"steps": [{"n": 1}, {"n": 2}]}, "steps:\n  n: 1\nsteps:\n  n: 2\n"),
        ({"odd": [{"n": 1}, 2, {}]}, "odd: [{'n': 1}, 2, {}]\n"),
    ],
)
def test_an_entity_is_a_line_a_field(
    capsys: pytest.CaptureFixture[str], entity: dict[str, object], shown: str
) -> None:
    print_entity(entity)
    assert capsys.readouterr().out == shown


def test_sizes_are_read_at_a_glance() -> None:
    sizes = [human_size(size) for size in (0, 999, 1500, 2_000_000, 3e9, 4e12, 5e15)]
    assert sizes == ["0 B", "999 B", "1.5 kB", "2 MB", "3 GB", "4 TB", "5000 TB"]
