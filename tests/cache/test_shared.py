"""Caches of others: used where they lie, verified first, never written, never believed."""

import os
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from medperf_cache import CacheError, Storage, shared, tree_digest
from medperf_cache.errors import NotCached
from medperf_cache.shared import INDEX, Index
from medperf_cache.sharing import share
from tests.cache.content import LAYER, File, Tree, archive, build, pack, residue
from tests.cache.processes import NOBODY, run_together, run_unprivileged, start
from tests.support.disks import DeadServer, read_only, status

TREE: Tree = {"a": File(b"x"), "run": File(b"!", executable=True), "d": {"b": File(b"y")}}
CONFIG = b'{"config": {}}'
IMAGE = sha256(CONFIG).hexdigest()


class Site:
    """A cache that looks in others, with what it tells and what it reads there."""

    def __init__(self, root: Path, *others: Path) -> None:
        self.told: list[str] = []
        self.read: list[str] = []
        self.storage = Storage(
            root, others, self.told.append, lambda what, done, total: self.read.append(what)
        )


@pytest.fixture
def other(tmp_path: Path) -> Storage:
    """Somebody else's cache."""
    return Storage(tmp_path / "others" / "cache")


@pytest.fixture
def site(tmp_path: Path, other: Storage) -> Callable[[], Site]:
    """Makes processes of a site that looks in that cache."""
    return lambda: Site(tmp_path / "own", other.root)


def settled() -> None:
    """Let what was written come to an age at which its status tells whether it changed."""
    time.sleep(0.1)


def test_what_another_cache_has_is_used_where_it_lies(
    tmp_path: Path, other: Storage, site: Callable[[], Site]
) -> None:
    blob = other.blobs.add([b"12345"])
    tree = other.trees.copy(build(TREE, tmp_path / "folder"))
    before = status(other.root)
    storage = site().storage
    assert blob in storage.blobs and tree in storage.trees
    assert storage.blobs.path(blob) == other.root / "blobs" / blob[:2] / blob
    assert storage.trees.path(tree) == other.root / "trees" / tree[:2] / tree
    assert (storage.size("blob", blob), storage.size("tree", tree)) == (5, 3)
    assert "0" * 64 not in storage.blobs and "../../etc" not in storage.blobs
    with pytest.raises(NotCached):
        storage.blobs.path("0" * 64)
    # It is not here, so nothing here lists or removes it.
    assert list(storage.items()) == [] == list(storage.blobs)
    assert storage.gc(0, 0) == []
    storage.remove("blob", blob)
    storage.remove("tree", tree)
    assert list(storage.verify()) == [] == list(storage.shared.verify())
    assert status(other.root) == before and blob in storage.blobs
    assert not (storage.root / "blobs").exists() and residue(storage) == []


def test_it_is_read_once_and_again_only_if_it_changed(
    tmp_path: Path, other: Storage, site: Callable[[], Site]
) -> None:
    blob = other.blobs.add([b"12345"])
    tree = other.trees.copy(build(TREE, tmp_path / "folder"))
    settled()
    first = site()
    assert blob in first.storage.blobs and tree in first.storage.trees
    assert len(set(first.read)) == 2
    second = site()
    assert blob in second.storage.blobs and tree in second.storage.trees
    assert second.read == [] == second.told
    # Nothing of what is remembered goes while the other cache is away.
    away = other.root.rename(other.root.with_name("away"))
    site().storage.gc()
    away.rename(other.root)
    third = site()
    assert blob in third.storage.blobs and third.read == []

    file = other.trees.path(tree) / "d" / "b"
    os.utime(file, (1, 1))
    fourth = site()
    assert tree in fourth.storage.trees and fourth.read != []
    file.chmod(0o600)
    file.write_bytes(b"z")
    settled()
    fifth = site()
    assert tree not in fifth.storage.trees and blob in fifth.storage.blobs
    (line,) = fifth.told
    assert f"tree {tree} is passed over, for it is damaged" in line and str(other.root) in line


def test_who_works_for_long_looks_again(
    other: Storage, site: Callable[[], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = other.blobs.add([b"right"])
    here, path = site(), other.blobs.path(digest)
    assert digest in here.storage.blobs
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    monkeypatch.setattr(shared, "FRESH_SECONDS", 0)
    assert digest not in here.storage.blobs and len(here.told) == 1
    path.unlink()
    other.blobs.add([b"right"])
    assert digest in here.storage.blobs


def test_wrong_bytes_are_told_once_and_the_next_cache_is_asked(tmp_path: Path) -> None:
    first, second = (Storage(tmp_path / name) for name in ("first", "second"))
    digest = first.blobs.add([b"right"])
    second.blobs.add([b"another"])
    wrong = first.blobs.path(digest)
    wrong.chmod(0o600)
    wrong.write_bytes(b"wrong")
    site = Site(tmp_path / "own", tmp_path / "nowhere", first.root, second.root)
    assert digest not in site.storage.blobs and digest not in site.storage.blobs
    assert len(site.told) == 2
    assert "nowhere is passed over" in site.told[0] and "No such file" in site.told[0]
    assert sha256(b"wrong").hexdigest() in site.told[1] and "Tell who keeps" in site.told[1]
    second.blobs.add([b"right"])
    assert site.storage.blobs.path(digest).read_bytes() == b"right"
    # What was fetched is one's own, and nobody else is asked.
    own = Site(tmp_path / "own", first.root)
    own.storage.blobs.add([b"right"], expected=digest)
    assert own.storage.blobs.path(digest).is_relative_to(own.storage.root) and own.told == []


def test_what_is_no_plain_file_or_folder_is_passed_over(
    tmp_path: Path, other: Storage, site: Callable[[], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    content = build(TREE, tmp_path / "folder")
    link, folder = sha256(b"outside").hexdigest(), tree_digest(content)
    names = {"link": link, "pipe": "1" * 64, "socket": "2" * 64, "folder": "3" * 64}
    places = {what: other.root / "blobs" / name[:2] / name for what, name in names.items()}
    for place in places.values():
        place.parent.mkdir(parents=True)
    places["link"].symlink_to(outside)
    os.mkfifo(places["pipe"])
    listener = socket.socket(socket.AF_UNIX)
    with listener, monkeypatch.context() as elsewhere:
        # Its whole path may be longer than a socket's may be.
        elsewhere.chdir(places["socket"].parent)
        listener.bind(places["socket"].name)
    places["folder"].mkdir()
    (other.root / "trees" / folder[:2]).mkdir(parents=True)
    (other.root / "trees" / folder[:2] / folder).symlink_to(content)
    here = site()
    assert [name for name in names.values() if name in here.storage.blobs] == []
    assert folder not in here.storage.trees
    assert len(here.told) == 5 and all("passed over" in line for line in here.told)
    found = {one.expected for _, one in site().storage.shared.verify()}
    assert found == {*names.values(), folder}


def test_a_folder_with_a_way_out_is_passed_over(
    tmp_path: Path, other: Storage, site: Callable[[], Site]
) -> None:
    place = other.root / "trees" / "00" / ("0" * 64)
    place.parent.mkdir(parents=True)
    build({"out": "/etc/passwd"}, place)
    here = site()
    assert "0" * 64 not in here.storage.trees and "may lead out" in here.told[0]


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "home"])
def test_what_is_no_cache_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "other"
    if kind == "file":
        root.touch()
    elif kind != "missing":
        root.mkdir()
    if kind == "home":
        Storage(root / "cache").blobs.add([b"x"])
    site = Site(tmp_path / "own", root)
    for content in (b"x", b"y"):
        assert sha256(content).hexdigest() not in site.storage.blobs
    (line,) = site.told
    assert f"shared cache {root} is passed over: " in line and "\n" not in line
    (summary,) = site.storage.shared.summaries()
    assert summary.trouble and summary.blobs == 0


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[DeadServer]:
    """Where a shared cache should be, the mount of a server that does not answer."""
    place = tmp_path / "mounted"
    place.mkdir()
    server = DeadServer(place)
    yield server
    server.unmount()


def test_a_mount_that_never_answers_keeps_nobody_waiting(
    tmp_path: Path, dead: DeadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PATIENCE_SECONDS", 0.3)
    alive = Storage(tmp_path / "alive")
    digest = alive.blobs.add([b"x"])
    site = Site(tmp_path / "own", dead.place, alive.root)
    began = time.monotonic()
    assert digest in site.storage.blobs and "0" * 64 not in site.storage.blobs
    site.storage.gc()
    assert time.monotonic() - began < 30
    assert "did not answer" in site.told[0] and len(site.told) == 1


def test_a_mount_whose_server_went_away_is_passed_over(tmp_path: Path, dead: DeadServer) -> None:
    dead.goes()
    alive = Storage(tmp_path / "alive")
    digest = alive.blobs.add([b"x"])
    site = Site(tmp_path / "own", dead.place, alive.root)
    assert digest in site.storage.blobs and len(site.told) == 1
    assert "Transport endpoint is not connected" in site.told[0]
    assert site.storage.shared.summaries()[0].trouble


def test_a_cache_that_goes_away_meanwhile_is_not_asked_again(
    tmp_path: Path, other: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [other.blobs.add([bytes([number])]) for number in range(3)]
    mounted, server = tmp_path / "mounted", tmp_path / "mounted" / "blobs"
    server.mkdir(parents=True)
    site = Site(tmp_path / "own", mounted, other.root)
    assert site.storage.shared.summaries()[0].trouble == ""
    dead = DeadServer(server)
    dead.goes()
    try:
        assert all(digest in site.storage.blobs for digest in digests)
    finally:
        dead.unmount()
    assert len(site.told) == 1 and f"shared cache {mounted} is passed over" in site.told[0]


def _has(site: Site, digest: str) -> None:
    assert digest in site.storage.blobs and site.told == []


def test_what_may_not_be_read_is_told_and_passed_over() -> None:
    with tempfile.TemporaryDirectory(prefix="medperf-shared-") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "own").mkdir()
        if os.geteuid() == 0:
            os.chown(root / "own", NOBODY, NOBODY)
        other = Storage(root / "other")
        closed, opened = (other.blobs.add([content]) for content in (b"closed", b"opened"))
        folder = other.trees.copy(build(TREE, root / "folder"))
        share(other)
        other.blobs.path(closed).chmod(0)
        (other.trees.path(folder) / "d").chmod(0)

        def work() -> None:
            site = Site(root / "own" / "cache", other.root)
            assert opened in site.storage.blobs and closed not in site.storage.blobs
            assert folder not in site.storage.trees
            assert len(site.told) == 1 and "Permission denied" in site.told[0]
            (summary,) = site.storage.shared.summaries()
            assert summary.trouble == "" and (summary.blobs, summary.trees) == (2, 1)

        run_unprivileged(work)
        # What came in since is closed until it is shared, too.
        late = other.blobs.add([b"late"])

        def later() -> None:
            site = Site(root / "own" / "cache", other.root)
            assert late not in site.storage.blobs and opened in site.storage.blobs
            (summary,) = site.storage.shared.summaries()
            assert "1 of its folders are closed to you" in summary.trouble and summary.blobs == 2

        run_unprivileged(later)
        share(other)
        run_unprivileged(lambda: _has(Site(root / "own" / "cache", other.root), late))
        # Closed to others, as every cache is until it is shared.
        other.root.chmod(0o700)

        def again() -> None:
            site = Site(root / "own" / "cache", other.root)
            assert opened not in site.storage.blobs
            assert "Permission denied" in site.told[0]

        run_unprivileged(again)


def test_what_rotted_without_a_trace_is_found_by_verify_and_used_no_more(
    other: Storage, site: Callable[[], Site]
) -> None:
    digest = other.blobs.add([b"right"])
    path = other.blobs.path(digest)
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    settled()
    here = site()
    assert digest not in here.storage.blobs
    # As if the disk had decayed below a file that nobody touched.
    index = here.storage._index
    (row,) = [key for key in index if key.startswith("fingerprint:")]
    index[row] = {"": index[row][""][:-64] + digest}
    assert digest in site().storage.blobs
    ((folder, finding),) = site().storage.shared.verify()
    assert folder == other.root and finding.expected == digest
    assert finding.found == sha256(b"wrong").hexdigest()
    assert digest not in site().storage.blobs
    assert path.read_bytes() == b"wrong"


def test_what_is_unpacked_here_and_there_is_not_kept_twice(
    tmp_path: Path, other: Storage, site: Callable[[], Site]
) -> None:
    packed = pack(build(TREE, tmp_path / "folder"), tmp_path / "archive")
    with open(packed, "rb") as file:
        digest = other.blobs.add(file)
    tree = other.trees.unpack(packed, digest)
    here = site().storage
    # Nobody's word is taken for what an archive unpacks to.
    assert here.trees.unpacked(digest) is None
    assert here.trees.unpack(here.blobs.path(digest), digest) == tree
    assert here.trees.path(tree).is_relative_to(other.root)
    assert list(here.items()) == [] == residue(here)
    assert site().storage.trees.unpacked(digest) == tree
    # Without the other it is unpacked again, from what is here then.
    other.remove("tree", tree)
    assert here.trees.unpacked(digest) is None
    assert here.trees.unpack(packed, digest) == tree
    assert here.trees.path(tree).is_relative_to(here.root)


def test_copies_of_images_come_from_there_once_they_are_proven(
    other: Storage, site: Callable[[], Site]
) -> None:
    content = archive(CONFIG, LAYER)
    other.images.add(IMAGE, [content])
    assert IMAGE not in site().storage.images
    assert share(other).summary.images == 1
    here = site()
    assert IMAGE in here.storage.images and here.told == []
    assert b"".join(here.storage.images.read(IMAGE)) == content
    assert here.storage.images.copied("any", IMAGE) == IMAGE
    assert list(here.storage.items()) == []
    assert site().storage.names.get(f"image:{IMAGE}") is not None


@pytest.mark.parametrize("closed", [False, True], ids=["writable", "read-only"])
def test_an_image_is_known_by_any_digest_that_its_copy_proves(
    other: Storage, small_disk: Path, closed: bool
) -> None:
    manifest = (
        b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",'
        b' "config": {"digest": "sha256:%s"}, "layers": []}' % IMAGE.encode()
    )
    digest = sha256(manifest).hexdigest()
    other.images.add(IMAGE, [archive(CONFIG, LAYER)])
    other.images.prove(IMAGE, [manifest])
    other.images.know(IMAGE, [digest])
    share(other)
    here = Site(small_disk / "own", other.root)
    if closed:
        with read_only(small_disk):
            assert digest in here.storage.images and here.storage.images.id_of(digest) == IMAGE
    else:
        assert digest in here.storage.images and here.storage.images.id_of(digest) == IMAGE
    assert here.told == []


def test_what_is_known_of_a_digest_stays(other: Storage, site: Callable[[], Site]) -> None:
    """An index is known to mean one image here, and there is a copy of another one of it there."""
    index = b'{"manifests": [{"digest": "sha256:%s"}]}'
    manifest = b'{"config": {"digest": "sha256:%s"}, "layers": []}' % IMAGE.encode()
    content = index % sha256(manifest).hexdigest().encode()
    digest, another = sha256(content).hexdigest(), sha256(b"another").hexdigest()
    other.images.add(IMAGE, [archive(CONFIG, LAYER)])
    other.images.prove(IMAGE, [manifest, content])
    other.images.know(IMAGE, [digest])
    share(other)
    here = site()
    here.storage.images.know(another, [digest])
    assert digest not in here.storage.images and IMAGE in here.storage.images
    assert here.storage.images.id_of(digest) == another
    fresh = Site(here.storage.root.with_name("fresh"), other.root)
    assert digest in fresh.storage.images and fresh.storage.images.id_of(digest) == IMAGE


def _lies(other: Storage) -> dict[str, Index]:
    recipe = other.images.parts(IMAGE)[0]
    another = sha256(b"another").hexdigest()
    return {
        "another image": Index({another: recipe}, {}),
        "another digest": Index({IMAGE: recipe}, {another: IMAGE}),
        "no recipe": Index({another: sha256(LAYER).hexdigest()}, {}),
        "not there": Index({another: "0" * 64}, {}),
    }


@pytest.mark.parametrize("lie", ["another image", "another digest", "no recipe", "not there"])
def test_what_is_said_of_an_image_and_is_not_so_is_passed_over(
    other: Storage, site: Callable[[], Site], lie: str
) -> None:
    other.images.add(IMAGE, [archive(CONFIG, LAYER)])
    (other.root / INDEX).write_text(_lies(other)[lie].text)
    here = site()
    wanted = sha256(b"another").hexdigest()
    assert wanted not in here.storage.images and wanted not in here.storage.images
    assert here.storage.images.id_of(wanted) is None
    assert len(here.told) == (lie != "not there")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"format": 2, "images": {}, "digests": {}}'),
        '{"format": 1, "images": [], "digests": {}}',
        '{"format": 1, "images": {"../x": "../y"}, "digests": {}}',
        '{"format": 1, "images": {}, "digests": {"x": 1}}',
        "[" * 100_000,
    ],
)
def test_a_list_of_images_in_another_form_is_told_and_the_rest_is_used(
    other: Storage, site: Callable[[], Site], text: str
) -> None:
    digest = other.blobs.add([b"x"])
    (other.root / INDEX).write_text(text)
    here = site()
    assert IMAGE not in here.storage.images and digest in here.storage.blobs
    assert len(here.told) == 1 and "is no list of images" in here.told[0]
    (summary,) = here.storage.shared.summaries()
    assert "is no list of images" in summary.trouble


def test_sharing_opens_what_is_kept_by_digest_and_nothing_else(
    tmp_path: Path, other: Storage
) -> None:
    other.blobs.add([b"x"])
    tree = other.trees.copy(build(TREE, tmp_path / "folder"))
    other.names.put("https://example.org/secret?token=1", "0" * 64)
    with other.scratch():
        done = share(other)
    assert done.summary.blobs == done.summary.trees == 1 and done.summary.trouble == ""

    def everybody(path: Path) -> bool:
        return bool(path.stat().st_mode & stat.S_IROTH)

    opened = {path.name for path in other.root.iterdir() if everybody(path)}
    assert opened == {"blobs", "trees", INDEX} and everybody(other.root)
    for path in (other.root / "blobs").rglob("*"):
        assert everybody(path) and not path.stat().st_mode & stat.S_IWOTH
    # Copies of it are their owner's to change.
    assert (other.trees.path(tree) / "a").stat().st_mode & stat.S_IWUSR
    assert list(other.verify()) == []
    tmp_path.chmod(0o700)
    assert share(other).closed in tmp_path.parents or share(other).closed == tmp_path


def test_what_is_shared_is_ones_own(tmp_path: Path, other: Storage) -> None:
    other.images.add(IMAGE, [archive(CONFIG, LAYER)])
    share(other)
    middle = Storage(tmp_path / "middle", [other.root])
    assert IMAGE in middle.images
    assert share(middle).summary.images == 0
    assert Index.read(middle.root / INDEX).recipes == {}


def test_who_is_killed_while_verifying_believes_nothing_half_read(
    tmp_path: Path, other: Storage
) -> None:
    content = os.urandom(1 << 20)
    digest = other.blobs.add(content for _ in range(64))
    path = other.blobs.path(digest)
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([content[-1] ^ 1]))
    settled()

    def work() -> None:
        assert digest not in Site(tmp_path / "own", other.root).storage.blobs

    for number in range(10):
        process = start(work)
        time.sleep(number * 0.01)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    run_together(work, work)


def test_who_is_killed_while_sharing_leaves_a_whole_list(other: Storage, tmp_path: Path) -> None:
    for number in range(20):
        config = b'{"n": %d}' % number
        other.images.add(sha256(config).hexdigest(), [archive(config, LAYER)])
    root = other.root

    def work() -> None:
        while True:
            share(Storage(root))

    for number in range(10):
        process = start(work)
        time.sleep(0.02 + number * 0.02)
        process.kill()
        process.join()
        if (root / INDEX).exists():
            assert len(Index.read(root / INDEX).recipes) == 20
    assert share(Storage(root)).summary.images == 20
    Storage(root).sweep()
    assert {path.name for path in root.iterdir()} == {"blobs", "trees", "memo", "incoming", INDEX}
    assert residue(Storage(root)) == []


def test_many_processes_look_at_once(tmp_path: Path, other: Storage) -> None:
    digests = [other.blobs.add([os.urandom(1 << 16)]) for _ in range(20)]
    root = other.root

    def work() -> None:
        storage = Storage(tmp_path / "own", [root])
        assert all(digest in storage.blobs for digest in digests)

    run_together(*[work] * 4)


def test_an_odd_name_of_a_digest_is_refused(other: Storage, site: Callable[[], Site]) -> None:
    other.blobs.add([b"x"])
    with pytest.raises(CacheError):
        site().storage.blobs.path("../" * 5)
