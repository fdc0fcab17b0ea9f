"""The policy of a site: read strictly, shown whole, tried on documents before it holds."""

import json
import random
import re
from pathlib import Path

import pytest

from medperf_client.disclosure.clearances import Clearances
from medperf_client.disclosure.rules import Rules
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.evidence.keys import Keys
from medperf_client.settings.config import load_config
from medperf_client.settings.credentials import Credentials
from medperf_client.settings.policy import Policy, Release, load_policy, read_policy
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
        ("- 1", "line 1: expected run, release, disclosure"),
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


RUN = """\
run:
  benchmarks:
    - owner: 2
    - {name: breast-cancer, registry: https://registry.example.org/}
  containers:
    - owner: 5
    - uid: 4
      mlcube_hash: HASH
  preparators: any
  unasked: []
""".replace("HASH", "ab" * 32)
RELEASE = "release:\n  persons: 2\n  reviewers: [4, 7]\n"
REGISTRY = "https://registry.example.org"
MODEL = {"id": 4, "name": "mlp", "owner": 7, "mlcube_hash": "ab" * 32, "image_hash": ""}
BENCHMARK = {"id": 1, "name": "breast-cancer", "owner": 3}


def test_a_list_lets_in_what_has_all_that_an_entry_names() -> None:
    lists = read_policy(RUN.encode(), "policy.yaml").admission
    assert lists.why_not("benchmarks", BENCHMARK, REGISTRY) == ""
    assert lists.why_not("benchmarks", {**BENCHMARK, "name": "x", "owner": 2}, "http://a") == ""
    # The same name in another registry is another benchmark.
    assert "line 2: no entry of run.benchmarks" in lists.why_not(
        "benchmarks", BENCHMARK, "http://a"
    )
    assert lists.why_not("containers", MODEL, REGISTRY) == ""
    assert lists.why_not("containers", {**MODEL, "id": 9, "owner": 5}, REGISTRY) == ""
    assert lists.why_not("preparators", {**MODEL, "owner": 1}, REGISTRY) == ""


def test_what_is_refused_is_told_with_its_line_and_what_lets_it_in() -> None:
    lists = read_policy(RUN.encode(), "policy.yaml").admission
    other = lists.why_not("containers", {**MODEL, "mlcube_hash": "cd" * 32}, REGISTRY)
    assert other.startswith("container 4 (mlp) of member 7 may not run on data of this site. ")
    assert "policy.yaml, line 5: no entry of run.containers names it" in other
    assert f"line 7 comes near, and wants mlcube_hash {'ab' * 32}, not {'cd' * 32}." in other
    assert f"`- owner: 7`, or `- uid: 4`, or `- {{mlcube_hash: {'cd' * 32}}}`" in other
    assert "line 10: no entry of run.unasked" in lists.why_not("unasked", MODEL, REGISTRY)
    # What a policy proposes is what it takes.
    mended = RUN.replace("    - owner: 5\n", "    - owner: 5\n    - owner: 7\n")
    changed = read_policy(mended.encode(), "policy.yaml").admission
    assert changed.why_not("containers", {**MODEL, "mlcube_hash": "cd" * 32}, REGISTRY) == ""


def test_lists_that_are_not_there_let_everything_in_and_are_shown_as_that() -> None:
    policy = read_policy(b"disclosure: {min_count: 5}", "x")
    for name in ("benchmarks", "containers", "preparators", "unasked"):
        assert policy.admission.why_not(name, MODEL, REGISTRY) == ""
    assert set(policy.record()["run"].values()) == {"any"}
    whole = read_policy(RUN.encode(), "x")
    assert read_policy(json.dumps(whole.record()).encode(), "x") == whole
    assert whole.record()["run"]["unasked"] == []


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        (2, "  benchmark:", "there is no setting 'benchmark'"),
        (3, "    - owner: carol@example.org", "owner expects a UID"),
        (3, "    - owner: 0", "owner expects a UID"),
        (3, "    - {}", "it names nothing: give some of owner, uid, name, registry"),
        (3, "    - 2", "expected owner, uid, name, registry, found 2"),
        (3, "    - mlcube_hash: x", "there is no setting 'mlcube_hash'"),
        (4, "    - {name: x, registry: registry}", "registry expects the URL of a registry"),
        (7, "    - uid: true", "uid expects a UID"),
        (8, "      mlcube_hash: abc", "mlcube_hash expects a SHA-256"),
        (9, "  preparators: none", "preparators expects any or a list, found 'none'"),
        (9, "  preparators:", "preparators expects any or a list, found None"),
        (10, "  unasked: {owner: 5}", "unasked expects any or a list"),
    ],
)
def test_lists_that_cannot_be_are_refused_with_their_line(line: int, wrong: str, said: str) -> None:
    lines = RUN.splitlines()
    lines[line - 1] = wrong
    with pytest.raises(UsageError, match=f"^policy.yaml, line {line}: ") as refused:
        read_policy("\n".join(lines).encode(), "policy.yaml")
    assert said in str(refused.value)


def test_one_person_releases_unless_a_policy_says_two() -> None:
    assert Policy().release.persons == 1 and Policy().release.reviewers is None
    policy = read_policy(b"release:\n  persons: 2\n  reviewers: [4, 7]\n", "policy.yaml")
    assert policy.release == Release(2, (4, 7)) and policy.release.where == "policy.yaml, line 2"
    assert policy.record()["release"] == {"persons": 2, "reviewers": [4, 7]}
    anybody = read_policy(b"release: {persons: 2, reviewers: any}", "x")
    assert read_policy(json.dumps(anybody.record()).encode(), "x") == anybody


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("persons: 3", "persons expects 1 or 2, found 3"),
        ("persons: true", "persons expects 1 or 2, found True"),
        ("persons: two", "persons expects 1 or 2, found 'two'"),
        ("person: 2", "there is no setting 'person'; the settings here are persons, reviewers"),
        ("reviewers: []", "reviewers expects any, or UIDs of members such as [4, 7], found []"),
        ("reviewers: [carol]", "reviewers expects any, or UIDs"),
        ("reviewers: 4", "reviewers expects any, or UIDs"),
    ],
)
def test_a_number_of_persons_that_cannot_be_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"^policy.yaml, line 2: ") as refused:
        read_policy(f"release:\n  {line}\n".encode(), "policy.yaml")
    assert said in str(refused.value)


@pytest.mark.parametrize("seed", range(300))
def test_whatever_became_of_a_policy_it_is_read_or_refused_in_words(seed: int) -> None:
    chance = random.Random(seed)
    text = bytearray((WHOLE + RUN + RELEASE).encode())
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text))
        piece = bytes(
            chance.choices(b"{}[]:-?&*!|>'\"%@`#,\n\t 0aZ\x00\xff", k=chance.randint(1, 4))
        )
        chance.choice(
            (
                lambda at=at, piece=piece: text.__setitem__(slice(at, at + len(piece)), piece),
                lambda at=at, piece=piece: text.__setitem__(slice(at, at), piece),
                lambda at=at: text.__delitem__(slice(at, at + chance.randint(1, 30))),
            )
        )()
    try:
        policy = read_policy(bytes(text), "policy.yaml")
    except UsageError as refused:
        assert re.match("policy.yaml(, line [0-9]+:| cannot be read:) ", str(refused)), text
        assert refused.hint
    else:
        # What was read is what is shown: nothing was passed over.
        assert read_policy(json.dumps(policy.record()).encode(), "x") == policy


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("target", ["unmounted", "itself"])
def test_a_policy_or_settings_behind_a_link_to_nowhere_are_not_none(
    tmp_path: Path, target: str, above: bool
) -> None:
    link = tmp_path / "itself"
    link.symlink_to(target)
    file = link / "policy.yaml" if above else link
    for read in (load_policy, load_config):
        with pytest.raises(UsageError, match="cannot be read: "):
            read(file)
    # What was left out by a member's decision, whose key signs, and the token lie there, too.
    with pytest.raises(MedPerfError, match="what was decided on findings, .* cannot be read"):
        Clearances(link).of({"auroc": 0.9})
    with pytest.raises(MedPerfError, match="the keys in .* cannot be read"):
        Keys(link).ids()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credentials.json").symlink_to(target)
    with pytest.raises(MedPerfError, match="cannot be read"):
        Credentials(tmp_path / "home").token("https://registry.example.org")


def test_reviewers_that_nobody_asks_are_told(member: Member) -> None:
    policy = member.home / "policy.yaml"
    member.home.mkdir(exist_ok=True)
    for persons, is_told in (("", True), ("persons: 1, ", True), ("persons: 2, ", False)):
        policy.write_text(f"release: {{{persons}reviewers: [4]}}\n")
        for file in ((), (str(policy),)):
            done = member.run("policy", "check", *file)
            assert done.returncode == 0
            assert ("release.reviewers does nothing" in done.stderr) == is_told
