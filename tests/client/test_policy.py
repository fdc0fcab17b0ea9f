"""The policy of a site: read strictly, shown whole, tried on documents before it holds."""

import json
from pathlib import Path

import pytest

from medperf_client.disclosure.rules import Rules
from medperf_client.errors import UsageError
from medperf_client.settings.policy import Policy, load_policy, read_policy
from tests.support.consortium import Member

WHOLE = """\
disclosure:
  findings: warn
  min_count: 5
  dominance: 0.8
  min_words: 7
  allow:
    - keys: label_counts.*
      because: Public data
      rules: [threshold, differencing]
"""


def test_a_site_without_a_policy_refuses_by_the_rules_as_they_are(tmp_path: Path) -> None:
    assert load_policy(tmp_path / "policy.yaml") == Policy("refuse", Rules(10, 0.5, 5))
    assert read_policy(b"", "x") == read_policy(b"disclosure: {}", "x") == Policy()


def test_a_policy_is_shown_as_it_could_be_written() -> None:
    policy = read_policy(WHOLE.encode(), "x")
    assert policy.findings == "warn" and policy.rules.min_count == 5
    assert read_policy(json.dumps(policy.record()).encode(), "x") == policy
    assert policy.record()["disclosure"]["allow"][0]["keys"] == "label_counts.*"


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        (2, "  findings: ask", "findings expects refuse or warn, found 'ask'"),
        (3, "  min_count: ten", "min_count expects a whole number"),
        (3, "  min_count: true", "min_count expects a whole number"),
        (4, "  dominance: 1.5", "dominance expects a share"),
        (5, "  most_words: 7", "there is no setting 'most_words'"),
        (7, "    - key: label_counts.*", "there is no setting 'key'"),
        (8, "      because: ''", "because expects a reason"),
        (9, "      rules: [thresholds]", "rules expects some of threshold"),
    ],
)
def test_what_nothing_knows_is_refused_with_its_line(line: int, wrong: str, said: str) -> None:
    lines = WHOLE.splitlines()
    lines[line - 1] = wrong
    with pytest.raises(UsageError, match=f"^policy.yaml, line {line}: ") as refused:
        read_policy("\n".join(lines).encode(), "policy.yaml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("disclosures: {}", "line 1: there is no setting 'disclosures'"),
        ("- 1", "line 1: expected disclosure"),
        ("disclosure: 3", "line 1: expected findings"),
        ("disclosure:\n  allow:\n    - {keys: a}", "line 3: because is missing"),
        ("disclosure:\n  min_count: 3\n  min_count: 4", "the key 'min_count' is there twice"),
        ("{", "cannot be read"),
        ("disclosure: &a {x: *a}", "cannot be read"),
    ],
)
def test_a_broken_policy_never_counts_as_none(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_policy(text.encode(), "policy.yaml")
    assert said in str(refused.value)


@pytest.fixture
def member(tmp_path: Path) -> Member:
    (tmp_path / "home").mkdir()
    return Member(tmp_path / "home", "http://127.0.0.1:9")


def test_the_policy_that_holds_is_shown(member: Member) -> None:
    assert member.json("policy", "view")["file"] is None
    assert "there is no" in member.does("policy", "view")
    (member.home / "policy.yaml").write_text(WHOLE)
    assert member.json("policy", "view")["disclosure"]["min_count"] == 5
    assert "because: Public data" in member.does("policy", "view")
    (member.home / "policy.yaml").write_text("disclosure: {min_counts: 5}")
    broken = member.run("policy", "view")
    assert broken.returncode == 2 and "policy.yaml, line 1: there is no" in broken.stderr


def test_a_policy_is_tried_on_a_document(member: Member, tmp_path: Path) -> None:
    policy, document = tmp_path / "p.yaml", tmp_path / "results.yaml"
    policy.write_text("disclosure: {min_count: 5}\n")
    document.write_text("label_counts: {a: 40, b: 4, c: 7}\n")
    assert "is a policy" in member.does("policy", "check", str(policy))
    done = member.run("policy", "check", str(policy), str(document))
    assert done.returncode == 1
    assert "label_counts.b" in done.stdout and "label_counts.c" not in done.stdout
    policy.write_text("disclosure: {min_count: 5, findings: warn}\n")
    seen = member.json("policy", "check", str(policy), str(document))
    assert seen["is_held_back"] is False and len(seen["findings"]) == 1
    policy.write_text("disclosure: {min_count: 4}\n")
    assert "nothing was found" in member.does("policy", "check", str(policy), str(document))
    policy.write_text("nothing: 1\n")
    assert member.run("policy", "check", str(policy)).returncode == 2
