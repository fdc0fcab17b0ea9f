"""What a bundle says that nobody can verify counts only with somebody's word; the rest never."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import Catalog, Storage
from medperf_cache.bundle import write
from medperf_cache.outbox import LOST, SENT, Outbox
from medperf_client.airgap.bundles import export_bundle, import_bundle
from medperf_client.airgap.carried import About, settle
from medperf_client.settings.config import Home
from medperf_client.site import Site
from tests.support.consortium import Consortium, Member
from tests.support.keys import make_keys

MODEL = ("test", "run", "--benchmark", "1", "--model", "2")
NOW = datetime.now(timezone.utc).isoformat(timespec="seconds")


class Forger:
    """Somebody who writes bundles that say what they like."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.folder, self.server_url = folder, server_url
        folder.mkdir()
        self.storage = Storage(folder / "cache")

    def bundle(
        self,
        content: Iterable[str] = (),
        about: dict[str, Any] | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        **documents: Iterable[Any],
    ) -> Path:
        """A bundle of what is in the forger's cache, and any rows in any document."""
        files = {}
        for name, rows in documents.items():
            files[name] = self.folder / name
            files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
        says = asdict(About(registry=self.server_url, created_at=NOW, fetched_at=NOW))
        write(
            self.folder / "forged.bundle",
            self.storage,
            {**says, **(about or {})},
            files,
            content,
            sign=sign,
        )
        return self.folder / "forged.bundle"


@pytest.fixture
def forger(consortium: Consortium, tmp_path: Path) -> Forger:
    """Somebody who knows the registry's address and nothing else."""
    return Forger(tmp_path / "forger", consortium.registry.url)


@pytest.fixture
def victim(newcomer: Member) -> Member:
    """A member who has read the registry, and nothing else; their network is gone."""
    newcomer.does("benchmark", "ls")
    newcomer.environment |= {"MEDPERF_OFFLINE": "1"}
    return newcomer


def hashes(member: Member, kind: str) -> dict[int, dict[str, str]]:
    """What pins the content of each entity that a member's copy of the registry has."""
    return {
        entity["id"]: {name: value for name, value in entity.items() if name.endswith("_hash")}
        for entity in member.json(kind, "ls")
    }


def test_no_other_content_comes_behind_a_pinned_hash(victim: Member, forger: Forger) -> None:
    benchmark = victim.json("benchmark", "view", "1")
    pinned = [benchmark["demo_dataset_tarball_hash"]]
    pinned += [one["image_hash"] for one in victim.json("container", "ls")]
    folder = forger.folder / "code"
    folder.mkdir()
    (folder / "container.py").write_text("raise SystemExit('code of somebody else')\n")
    tree = forger.storage.trees.copy(folder)
    names = [[prefix + digest, tree] for digest in pinned for prefix in ("", "unpacked:")]
    victim.does("bundle", "import", str(forger.bundle([tree], names=names)))
    failed = victim.run(*MODEL)
    assert failed.returncode == 1 and "is not in the cache" in failed.stderr
    storage = Storage(victim.home / "cache")
    assert [storage.trees.unpacked(digest) for digest in pinned] == [None] * len(pinned)


def test_what_a_cache_notes_of_an_archive_is_derived_again(newcomer: Member) -> None:
    assert newcomer.json(*MODEL)["passed"]
    storage = Storage(newcomer.home / "cache")
    benchmark = newcomer.json("benchmark", "view", "1")
    archive = benchmark["demo_dataset_tarball_hash"]
    right, other = storage.trees.unpacked(archive), next(iter(storage.trees))
    assert right is not None
    other = next(tree for tree in storage.trees if tree != right)
    storage.names.put(f"unpacked:{archive}", other)
    found = newcomer.run("storage", "verify", "--json")
    assert found.returncode == 1
    (finding,) = json.loads(found.stdout)["damaged"]
    assert (finding["kind"], finding["expected"], finding["found"]) == ("name", right, other)
    newcomer.does("storage", "verify", "--remove")
    assert newcomer.json(*MODEL)["passed"]
    assert Storage(newcomer.home / "cache").trees.unpacked(archive) == right


def forged_results(storage: Storage, home: Path) -> list[Any]:
    """A memo that gives a perfect result for each step that a member's cache has."""
    perfect = storage.blobs.add([b"auroc: 1.0\n"])
    rows = []
    for key, record in Storage(home / "cache").memo.items():
        outputs = {
            name: ["file", perfect] if kind == "file" else [kind, digest]
            for name, (kind, digest) in record["outputs"].items()
        }
        rows.append([key, {**record, "outputs": outputs}])
    return rows


def test_results_of_others_count_only_under_a_signature_that_is_asked_for(
    consortium: Consortium, victim: Member, forger: Forger, tmp_path: Path
) -> None:
    prepared = consortium.member("prepared-for-trust")
    prepared.json(*MODEL)
    del victim.environment["MEDPERF_OFFLINE"]
    rows = forged_results(forger.storage, prepared.home)
    perfect = sha256(b"auroc: 1.0\n").hexdigest()
    unsigned = forger.bundle([perfect], memo=rows)
    told = victim.run("bundle", "import", str(unsigned))
    assert told.returncode == 0 and "were not taken" in told.stderr
    report = victim.json(*MODEL)
    assert {step["source"] for step in report["steps"]} == {"ran"}
    assert report["results"] != {"auroc": 1.0}


def test_whose_word_a_result_is_stands_in_every_report(
    consortium: Consortium, victim: Member, tmp_path: Path
) -> None:
    prepared = consortium.member("prepared-to-sign")
    prepared.json(*MODEL)
    private, public = make_keys(tmp_path / "key")
    file = tmp_path / "signed.bundle"
    prepared.does("bundle", "export", str(file), "--sign", private)
    taken = victim.json("bundle", "import", str(file), "--require-signature", public)
    assert taken["results"] == 5
    report = victim.json(*MODEL)
    signers = {step.get("signed_by") for step in report["steps"]}
    (signer,) = signers
    assert isinstance(signer, str) and len(signer) == 64
    assert f"cache, signed by {signer[:12]}" in victim.does("test", "view", "latest")
    # Who takes their word does not give it on as their own.
    again = tmp_path / "again.bundle"
    victim.does("bundle", "export", str(again), "--sign", private)
    assert (
        victim.json("bundle", "import", str(again), "--require-signature", public)["results"] == 0
    )
    documents = json.loads(victim.does("bundle", "view", str(again), "--json"))["documents"]
    assert "memo" in documents
    # The committee sees it, too.
    del victim.environment["MEDPERF_OFFLINE"]
    member = consortium.member("prepared-to-sign")
    assert "signed_by" not in json.dumps(member.json(*MODEL))


def test_no_bundle_moves_the_cursor_or_changes_what_is_pinned(
    victim: Member, forger: Forger
) -> None:
    containers, benchmark = victim.json("container", "ls"), victim.json("benchmark", "view", "1")
    before = hashes(victim, "container"), hashes(victim, "benchmark")
    later = "2999-01-01T00:00:00Z"
    forged = [
        *(["mlcube", {**one, "mlcube_hash": "f" * 64, "modified_at": later}] for one in containers),
        ["benchmark", {**benchmark, "demo_dataset_tarball_hash": "f" * 64, "modified_at": later}],
        ["benchmark", {**benchmark, "id": 99, "name": "forged", "modified_at": later}],
    ]
    about = {"cursor": 2**61, "fetched_at": "2999-01-01T00:00:00+00:00"}
    done = victim.json("bundle", "import", str(forger.bundle(about=about, catalog=forged)))
    assert len(done["kept"]) == len(containers) + 1 and done["entities_changed"] == 1
    assert hashes(victim, "container") == before[0]
    assert hashes(victim, "benchmark")[1] == before[1][1]
    assert "forged" in victim.does("benchmark", "ls")
    # What it added stays until the registry is heard.
    del victim.environment["MEDPERF_OFFLINE"]
    victim.does("sync")
    assert hashes(victim, "benchmark") == before[1]
    assert victim.json("container", "ls") == containers
    assert victim.json("sync")["news"] == []


def test_whoever_never_saw_the_registry_believes_a_bundle_until_the_next_sync(
    consortium: Consortium, forger: Forger, newcomer: Member
) -> None:
    entity = {**consortium.member("reader").json("container", "view", "2"), "mlcube_hash": "f" * 64}
    about = {"cursor": 2**61, "fetched_at": "2999-01-01T00:00:00+00:00"}
    forged = forger.bundle(about=about, catalog=[["mlcube", entity]])
    newcomer.does("bundle", "import", str(forged))
    assert newcomer.json("container", "view", "2", "--offline")["mlcube_hash"] == "f" * 64
    newcomer.does("sync")
    assert newcomer.json("container", "ls") == consortium.member("reader").json("container", "ls")


def test_a_signed_bundle_may_say_what_has_changed(
    consortium: Consortium, victim: Member, tmp_path: Path
) -> None:
    private, public = make_keys(tmp_path / "key")
    site = Site(Home(victim.home, victim.home / "cache"), offline=True)
    site.profile = replace(site.profile, server_url=consortium.registry.url)
    later = {"mlcube_hash": "e" * 64, "modified_at": "2999-01-01T00:00:00Z"}
    changed = {**site.catalog.get("mlcube", 2), **later}
    source = Site(Home(tmp_path / "source", tmp_path / "source" / "cache"), offline=True)
    source.profile = site.profile
    source.catalog.put("mlcube", changed)
    source.catalog.me, source.catalog.fetched_at = site.catalog.me, NOW
    file = tmp_path / "signed.bundle"
    export_bundle(source, file, sign_with=Path(private))
    assert import_bundle(site, file).kept == [f"container {changed['id']} ({changed['name']})"]
    assert import_bundle(site, file, Path(public)).changed >= 1
    assert site.catalog.get("mlcube", changed["id"]) == changed


def test_a_forged_receipt_is_found_out_at_the_next_sync(
    own_consortium: Consortium, tmp_path: Path
) -> None:
    owner = own_consortium.member("owner")
    options = own_consortium.container_options("model_mlp")
    owner.does("benchmark", "ls")
    owner.json("test", "run", "--benchmark", "1", "--model", "2")
    queued = ("container", "submit", "--name", "mine", *options, "--operational", "-y")
    declined = owner.run(*queued[:-1], answers="n\n")
    assert "Nothing was sent." in declined.stderr
    owner.does(*queued, "--offline")
    site = Site(Home(owner.home, owner.home / "cache"), offline=True)
    site.profile = replace(site.profile, server_url=own_consortium.registry.url)
    (entry,) = site.queue.waiting()
    answer = {**entry.body, "id": 2, "owner": 9, "created_at": NOW, "modified_at": NOW}
    told = asdict(replace(entry, state=SENT, answer=answer, member=None))
    forger = Forger(tmp_path / "forger", own_consortium.registry.url)
    receipt = forger.bundle(about={"receipt_for": "0" * 64}, outbox=[told])
    owner.does("bundle", "import", str(receipt))
    lost = owner.json("sync")["lost"]
    assert [one["uid"] for one in lost] == ["q1"]
    assert [one["state"] for one in owner.json("queue", "ls")] == [LOST]
    owner.does("queue", "resend")
    assert [one["uid"] for one in owner.json("sync")["sent"]] == ["q1"]
    assert [one["name"] for one in owner.json("container", "ls", "--mine")] == ["mine"]


def test_a_receipt_adds_what_was_not_known_and_changes_nothing_else(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    body = {"name": "mine", "mlcube_hash": ""}
    entry = outbox.add("mlcube", "POST", "/mlcubes/", body, {"mlcube_hash": "http://h/c.yaml"})
    found = {"name": "theirs", "mlcube_hash": "ab" * 32, "is_valid": False}
    settle(outbox, Catalog(tmp_path / "catalog"), [replace(entry, body=found, unknown={})])
    settled = outbox.get(entry.uid)
    assert settled.body == {"name": "mine", "mlcube_hash": "ab" * 32} and settled.unknown == {}
    settle(outbox, Catalog(tmp_path / "catalog"), [replace(entry, body={"name": "theirs"})])
    assert outbox.get(entry.uid) == settled
