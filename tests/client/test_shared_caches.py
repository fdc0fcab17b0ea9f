"""A site and the caches that others keep: nothing of them is fetched, copied, changed, believed."""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_client.errors import UsageError
from medperf_client.settings.config import Profile
from tests.support.consortium import Consortium, Member
from tests.support.disks import status, viewed
from tests.support.reports import ALL_STEPS, ran, report_of


@pytest.fixture
def administrator(consortium: Consortium, newcomer: Member) -> Member:
    """Somebody who fetched the benchmark and shares their cache."""
    newcomer.does("benchmark", "fetch", "1")
    newcomer.does("storage", "share")
    return newcomer


def joined(consortium: Consortium, name: str, *caches: Path) -> Member:
    """A new member at a new machine, with these shared caches."""
    member = consortium.member(name)
    member.does("profile", "set", "shared_caches", json.dumps(list(map(str, caches))))
    member.does("benchmark", "ls")
    return member


def own_blobs(member: Member) -> set[str]:
    """What lies in a member's own cache."""
    return {path.name for path in (member.home / "cache" / "blobs").glob("??/*")}


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test has."""
    return sha256(request.node.nodeid.encode()).hexdigest()[:12]


def test_a_benchmark_runs_on_what_another_fetched(
    consortium: Consortium, administrator: Member, name: str, tmp_path: Path
) -> None:
    with viewed(administrator.home / "cache", tmp_path / "mounted") as mounted:
        member = joined(consortium, name, mounted)
        before, asked = status(mounted), len(consortium.host.requests)
        assert member.json("benchmark", "fetch", "1")["ready"]
        assert ran(report_of(member, 2, "--offline")) == ALL_STEPS
        assert ran(report_of(member, 2)) == []
        assert len(consortium.host.requests) == asked
        # Nothing of it was copied: what lies here is what its steps made.
        shared = {path.name for path in mounted.glob("blobs/??/*")}
        assert shared and not own_blobs(member) & shared
        assert not {path.name for path in (member.home / "cache" / "trees").glob("??/*")} & {
            path.name for path in mounted.glob("trees/??/*")
        }
        member.does("storage", "gc", "--unused-days", "0")
        assert status(mounted) == before
        assert member.json("benchmark", "status", "1")["ready"]
    # Without it, it is as if it had never been there.
    gone = member.run("benchmark", "status", "1", "--json")
    assert gone.returncode == 1 and not json.loads(gone.stdout)["ready"]
    (line,) = [one for one in gone.stderr.splitlines() if "shared cache" in one]
    assert f"{mounted} is passed over" in line
    assert member.json("benchmark", "fetch", "1")["ready"]
    assert own_blobs(member) >= shared


def test_the_commands_of_the_cache_show_a_shared_one_as_what_it_is(
    consortium: Consortium, administrator: Member, name: str, tmp_path: Path
) -> None:
    cache, nowhere = administrator.home / "cache", tmp_path / "nowhere"
    member = joined(consortium, name, cache, nowhere)
    counted = administrator.json("storage", "status")
    assert counted["writable"] and counted["free_bytes"] > 0 and counted["shared"] == []
    listed = member.json("storage", "ls")
    assert listed["items"] == []
    there, away = listed["shared"]
    assert there == {
        "folder": str(cache),
        "blobs": counted["blobs"],
        "trees": counted["trees"],
        "images": 0,
        "trouble": None,
    }
    assert away["folder"] == str(nowhere) and "No such file" in away["trouble"]
    assert member.json("storage", "status")["shared"] == listed["shared"]
    shown = member.does("storage", "status")
    assert f"{cache}" in shown and "shared" in shown and "your own" in shown
    assert f"shared, only read: {cache}: " in member.does("storage", "ls")

    whole = member.json("storage", "verify")
    assert whole["damaged_shared"] == [] and len(whole["missing_shared"]) == 1
    blob = next(iter((cache / "blobs").glob("??/*")))
    kept = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(b"rotten")
    for words in (("storage", "verify"), ("storage", "verify", "--remove")):
        found = member.run(*words)
        assert found.returncode == 1 and blob.name in found.stdout
        assert f"damaged, in the shared cache {cache}" in found.stdout
        assert "nobody else can mend it" in found.stderr
    assert blob.read_bytes() == b"rotten"
    assert member.json("storage", "verify", "--own")["damaged_shared"] == []
    # What is damaged there comes from where it always came from.
    fetched = member.run("benchmark", "fetch", "1", "--json")
    assert json.loads(fetched.stdout)["ready"], fetched.stderr
    assert f"blob {blob.name} is passed over, for it is damaged" in fetched.stderr
    assert own_blobs(member) == {blob.name}
    assert (member.home / "cache" / "blobs" / blob.name[:2] / blob.name).read_bytes() == kept


def test_a_copy_on_a_disc_serves_as_well_and_others_are_asked_in_order(
    consortium: Consortium, administrator: Member, name: str, tmp_path: Path
) -> None:
    disc = shutil.copytree(administrator.home / "cache", tmp_path / "disc", symlinks=True)
    # Nothing but what is found by its digest is ever opened.
    for path in (*disc.glob("memo/*"), *disc.glob("partials/*")):
        path.unlink()
        path.mkdir()
    (tmp_path / "empty").mkdir()
    half = shutil.copytree(disc / "trees", tmp_path / "half" / "trees").parent
    member = joined(consortium, name, tmp_path / "empty", half, disc)
    asked = len(consortium.host.requests)
    fetched = member.run("benchmark", "fetch", "1", "--json")
    assert json.loads(fetched.stdout)["ready"], fetched.stderr
    assert len(consortium.host.requests) == asked
    assert "empty is passed over" in fetched.stderr and "Is it mounted" in fetched.stderr
    assert fetched.stderr.count("shared cache") == 1


def test_what_changes_there_while_a_container_reads_it_gives_nothing(
    consortium: Consortium, administrator: Member, name: str
) -> None:
    cache = administrator.home / "cache"
    member = joined(consortium, name, cache)
    (data,) = (path for path in cache.glob("trees/??/*/measurements") if path.is_dir())
    file = next(data.iterdir())
    process = member.start("test", "run", "-b", "1")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("prepare: running"):
            break
    file.chmod(0o644)
    # Its last row without the end of the line says the same.
    os.truncate(file, file.stat().st_size - 1)
    _, said = process.communicate()
    assert process.returncode == 1 and "changed while a container read it" in said
    assert not list((member.home / "cache" / "trees").glob("??/*"))
    # From then on it is passed over, and fetched.
    again = member.run("test", "run", "-b", "1", "--json")
    assert ran(json.loads(again.stdout)) == ALL_STEPS and "for it is damaged" in again.stderr


def test_who_finds_everything_at_home_looks_nowhere_else(
    consortium: Consortium, administrator: Member, name: str, tmp_path: Path
) -> None:
    member = joined(consortium, name, tmp_path / "nowhere")
    member.does("benchmark", "fetch", "1")
    for words in (("test", "run", "-b", "1"), ("benchmark", "status", "1"), ("benchmark", "ls")):
        done = member.run(*words)
        assert done.returncode == 0 and "shared cache" not in done.stderr, done.stderr


def test_sharing_says_what_keeps_others_out(administrator: Member, tmp_path: Path) -> None:
    shown = administrator.run("storage", "share")
    cache = administrator.home / "cache"
    assert f"medperf profile set shared_caches '[{cache}]'" in shown.stdout
    closed = administrator.json("storage", "share")["closed"]
    assert closed is not None and f"chmod o+x {closed}" in shown.stderr


@pytest.mark.parametrize("text", ["/mnt", "[1]", "['']", "{}", "null", '["a\\0b"]', "[[]]"])
def test_a_setting_that_names_no_folders_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="shared_caches"):
        Profile().with_text("shared_caches", text)
    assert Profile().with_text("shared_caches", "[a, ~/b]").shared_caches == ["a", "~/b"]
