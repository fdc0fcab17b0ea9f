"""Files on a member's disk: the registry keeps them, whatever cuts them off on the way."""

import itertools
import random
import re
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_client.errors import Offline, Refused, TryLater
from medperf_client.registry.client import Registry as Client
from medperf_client.registry.uploads import PIECE_BYTES, Uploader
from medperf_client.transfer.fetcher import Fetcher
from medperf_client.transfer.own_files import OwnFiles
from tests.support.badhost import BadHost, answer, bad_host
from tests.support.consortium import Consortium, Member
from tests.support.proxy import FINE, LOST, RESET, Fault, Proxy, Request, proxy, status
from tests.support.registry import Registry

_numbers = itertools.count(1)
MIB = 1 << 20
TOKEN = "mpf_token"


@pytest.fixture
def owner(consortium: Consortium) -> Member:
    """A model owner who has nowhere to host files."""
    return consortium.member(f"uploader-{next(_numbers)}")


@pytest.fixture
def model(consortium: Consortium, tmp_path: Path) -> Path:
    """The candidate model as nobody has it, all of it on the owner's disk."""
    folder = tmp_path / "model"
    shutil.copytree(consortium.candidate, folder)
    parts = consortium.layout.containers["model_mlp"]
    shutil.copy(parts.project.path, folder / "project.tar.gz")
    config = folder / "container_config.yaml"
    config.write_text(re.sub(r"(?m)^image: .*$", "image: project.tar.gz", config.read_text()))
    with open(folder / "workspace" / "parameters.yaml", "a") as parameters:
        parameters.write(f"\n# {tmp_path}\n")
    add_ballast(parts.additional_files.path, folder / "weights.tar.gz", 10)
    return folder


def add_ballast(source: Path, target: Path, size: int) -> None:
    """Copy an archive with a file in it that nothing compresses, and nobody has."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz", compresslevel=1) as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        ballast = tarfile.TarInfo("ballast")
        ballast.size = size
        new.addfile(ballast, BytesIO(random.randbytes(size)))


def digest(path: Path) -> str:
    """SHA-256, hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()


def files(model: Path) -> dict[str, Path]:
    """What a model consists of, by the fields of its entity."""
    return {
        "git_mlcube_url": model / "container_config.yaml",
        "git_parameters_url": model / "workspace" / "parameters.yaml",
        "additional_files_tarball_url": model / "weights.tar.gz",
        "image_tarball_url": model / "project.tar.gz",
    }


def submission(model: Path, *options: str) -> list[str]:
    """The words that submit a model from this disk."""
    return [
        *("container", "submit", "--name", f"uploaded-{next(_numbers)}", "--operational", "-y"),
        *("--container-config-file", str(model / "container_config.yaml")),
        *("--parameters-file", str(model / "workspace" / "parameters.yaml")),
        *("--additional-file", str(model / "weights.tar.gz")),
        *options,
    ]


def cached(member: Member) -> dict[str, list[str]]:
    """What is in a member's cache, and for what it is pinned."""
    return {one["sha256"]: one["pins"] for one in member.json("storage", "ls")["items"]}


def passes(member: Member, uid: int) -> bool:
    """Whether a container of the registry passes benchmark 1 at a member's."""
    report = member.json("test", "run", "--benchmark", "1", "--model", str(uid))
    return bool(report["passed"] and report["results"]["auroc"] > 0.95)


def test_files_on_this_disk_are_there_for_every_member(
    consortium: Consortium, owner: Member, newcomer: Member, model: Path
) -> None:
    container = owner.json(*submission(model))
    for field, path in files(model).items():
        url = f"{consortium.registry.url}/api/v0/assets/{digest(path)}"
        assert container[field].partition("?")[0] == url
    assert container["image_tarball_hash"] == digest(model / "project.tar.gz")
    assert container["image_hash"] == ""
    shutil.rmtree(model)
    assert passes(newcomer, container["id"]) and passes(owner, container["id"])


def test_what_will_be_uploaded_is_shown_before_it_is(owner: Member, model: Path) -> None:
    words = [word for word in submission(model) if word != "-y"]
    declined = owner.run(*words, answers="n\n")
    for path in files(model).values():
        assert f"to upload: {path}, " in declined.stderr
    assert declined.returncode == 1 and owner.json("queue", "ls") == []


def test_a_file_may_be_here_and_another_elsewhere(
    consortium: Consortium, owner: Member, model: Path
) -> None:
    hosted = consortium.container_options("model_mlp")
    here = ["--parameters-file", str(model / "workspace" / "parameters.yaml")]
    name = f"uploaded-{next(_numbers)}"
    container = owner.json("container", "submit", "--name", name, *hosted, *here, "-y")
    assert container["git_mlcube_url"].startswith(consortium.host.url)
    assert container["git_parameters_url"].startswith(consortium.registry.url)
    assert container["image_tarball_url"] == "" and container["image_hash"] != ""


def test_offline_the_files_wait_with_the_submission(
    owner: Member, newcomer: Member, model: Path
) -> None:
    sent = {digest(path) for path in files(model).values()}
    assert owner.json(*submission(model), "--offline")["id"] == "q1"
    (entry,) = owner.json("queue", "ls")
    assert set(entry["uploads"]) == sent
    # They wait in the cache: nothing else is needed of this disk.
    shutil.rmtree(model)
    owner.does("storage", "gc", "--unused-days", "0")
    assert sent <= set(cached(owner))
    (done,) = owner.json("sync")["sent"]
    assert passes(newcomer, done["as"])
    # And as long as the registry may lose them, for `queue resend` to send them anew.
    owner.does("storage", "gc", "--unused-days", "0")
    kept = cached(owner)
    assert sent == {content for content, pins in kept.items() if pins}


def test_what_is_dropped_is_let_go(owner: Member, model: Path) -> None:
    for _ in range(2):
        owner.does(*submission(model), "--offline")
    owner.does("queue", "drop", "q1", "-y")
    assert any(cached(owner).values())
    owner.does("queue", "drop", "q2", "-y")
    assert not any(cached(owner).values())


def test_an_edit_may_name_a_host_instead(
    consortium: Consortium, owner: Member, model: Path
) -> None:
    owner.does(*submission(model), "--offline")
    parameters = files(model)["git_parameters_url"]
    hosted = consortium.host.folder / f"parameters-{next(_numbers)}.yaml"
    shutil.copy(parameters, hosted)
    url = f"{consortium.host.url}{hosted.name}"
    owner.does("queue", "edit", "q1", "--set", f"git_parameters_url={url}")
    (done,) = owner.json("sync")["sent"]
    assert owner.json("container", "view", str(done["as"]))["git_parameters_url"] == url
    token = consortium.registry.token_for(f"{owner.home.name}@example.org")
    client = Client(consortium.registry.url, token)
    assert client.upload("HEAD", f"/assets/{digest(parameters)}", {}).status_code == 404


@pytest.mark.parametrize("what", ["nothing", "folder", "hash"])
def test_what_cannot_be_uploaded_is_said_at_once(owner: Member, model: Path, what: str) -> None:
    wrong = {"nothing": "no-such-file", "folder": "workspace", "hash": "weights.tar.gz"}[what]
    options = ["--additional-file", str(model / wrong)]
    options += ["--additional-hash", "0" * 64] if what == "hash" else []
    done = owner.run(*submission(model, *options))
    assert done.returncode == (1 if what == "hash" else 2)
    said = {
        "nothing": ["there is no file", "http://"],
        "folder": ["is a folder", "tar -czf"],
        "hash": ["0" * 64, digest(model / "weights.tar.gz")],
    }[what]
    assert all(one in done.stderr for one in [*said, str(model / wrong)])
    assert owner.json("queue", "ls") == []


def test_the_queue_carries_its_files_across_an_air_gap(
    consortium: Consortium, owner: Member, newcomer: Member, model: Path, tmp_path: Path
) -> None:
    owner.does(*submission(model), "--offline")
    owner.does("bundle", "export", str(tmp_path / "queue"), "--queue")
    outside = consortium.member(owner.home.name, home=f"{owner.home.name}-outside")
    (done,) = outside.json("sync", "--bundle", str(tmp_path / "queue"))["sent"]
    owner.does("bundle", "import", str(tmp_path / "queue.receipt"))
    assert any(cached(owner).values()), "what the registry may lose"
    assert passes(newcomer, done["as"])


def set_quota(registry: Registry, member: Member, quota_bytes: int) -> None:
    """Bound what a member may keep in the registry."""
    from medperf_server.models import User, db

    with registry.app.app_context():
        email = f"{member.home.name}@example.org"
        db.session.scalars(db.select(User).filter_by(email=email)).one().quota_bytes = quota_bytes
        db.session.commit()


def test_a_quota_is_the_registrys_decision(
    consortium: Consortium, owner: Member, model: Path
) -> None:
    set_quota(consortium.registry, owner, 100)
    refused = owner.run(*submission(model))
    assert refused.returncode == 1 and "of your quota of 100 bytes" in refused.stderr
    assert owner.json("queue", "ls") == [] and not any(cached(owner).values())
    owner.does(*submission(model), "--offline")
    done = owner.run("sync", "--json")
    (entry,) = owner.json("queue", "ls")
    assert done.returncode == 1 and entry["state"] == "rejected"
    assert "of your quota of 100 bytes" in entry["reason"]
    # Once there is room it goes.
    set_quota(consortium.registry, owner, 10**9)
    owner.does("queue", "retry", "q2")
    assert [one["uid"] for one in owner.json("sync")["sent"]] == ["q2"]


def test_a_registry_that_stores_no_files_is_told_as_that(
    consortium: Consortium, owner: Member, model: Path
) -> None:
    def plain(request: Request) -> Fault:
        return status("404 Not Found") if "/assets/" in request.path else FINE

    with proxy(consortium.registry.url, plain) as server:
        owner.environment["MEDPERF_SERVER_URL"] = server.url
        refused = owner.run(*submission(model))
    assert refused.returncode == 1
    assert "stores no files" in refused.stderr and "give their URLs" in refused.stderr


class Sending:
    """A file in a cache, and the registry that it goes to, behind a proxy."""

    def __init__(self, folder: Path, host: Proxy, token: str, size: int) -> None:
        self.host, self.size = host, size
        self.storage = Storage(folder / "cache")
        self.content = random.randbytes(size)
        self.digest = self.storage.blobs.add([self.content])
        self.client = Client(host.url, token)
        self.waited: list[float] = []

    def upload(self) -> None:
        """Send it, without waiting in between."""
        Uploader(self.storage, self.client, rest=self.waited.append).upload(self.digest)

    @property
    def moved(self) -> int:
        """How many bytes of it were sent, however often."""
        pieces = [one for one in self.host.requests if one.method == "PATCH"]
        return sum(int(one.headers["content-length"]) for one in pieces)

    def arrived(self, folder: Path) -> bool:
        """Whether the registry has it, whole."""
        own = OwnFiles(self.host.url, lambda: self.client._token)
        fetcher = Fetcher(Storage(folder / "other"), own=own)
        return fetcher.fetch(own.url(self.digest)) == self.digest


@pytest.fixture
def sending(shared_registry: Registry, tmp_path: Path) -> Iterator[Callable[[int], Sending]]:
    """Makes files to send, as a member of their own."""
    token = shared_registry.token_for(f"sender-{next(_numbers)}@example.org")
    with proxy(shared_registry.url) as host:
        yield lambda size: Sending(tmp_path, host, token, size)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_file_of_any_size_is_sent_once(
    sending: Callable[[int], Sending], tmp_path: Path, size: int
) -> None:
    one = sending(size)
    one.upload()
    assert one.moved == size and one.arrived(tmp_path)
    one.upload()
    assert one.moved == size


@pytest.mark.parametrize("fault", [LOST, RESET, status("503 Service Unavailable")])
@pytest.mark.parametrize("number", range(4))
def test_whatever_is_cut_off_moves_one_piece_twice_at_most(
    sending: Callable[[int], Sending], tmp_path: Path, number: int, fault: Fault
) -> None:
    one = sending(2 * PIECE_BYTES + MIB)
    seen: list[int] = []

    def faults(request: Request) -> Fault:
        if "/assets/" not in request.path:
            return FINE
        seen.append(request.number)
        return fault if len(seen) - 1 == number else FINE

    one.host.faults = faults
    one.upload()
    assert one.size <= one.moved <= one.size + PIECE_BYTES
    assert len(one.waited) == 1 and one.arrived(tmp_path)


def test_a_registry_that_stays_broken_is_left_alone(sending: Callable[[int], Sending]) -> None:
    one = sending(MIB)
    one.host.faults = lambda r: status("503 No") if r.method == "PATCH" else FINE
    with pytest.raises(TryLater, match="503"):
        one.upload()
    assert len(one.waited) == 3
    one.host.stop()
    with pytest.raises(Offline):
        one.upload()


def test_a_registry_that_asks_for_time_gets_it(sending: Callable[[int], Sending]) -> None:
    one = sending(MIB)
    busy = iter([status("503 Busy", "Retry-After: 7")])
    one.host.faults = lambda r: next(busy, FINE) if r.method == "PATCH" else FINE
    one.upload()
    assert one.waited == [7.0]


def test_damaged_content_is_refused_with_both_hashes(sending: Callable[[int], Sending]) -> None:
    one = sending(MIB)
    path = one.storage.blobs.path(one.digest)
    path.chmod(0o600)
    path.write_bytes(b"x" * MIB)
    with pytest.raises(Refused, match=f"{one.digest}.*{sha256(b'x' * MIB).hexdigest()}"):
        one.upload()


@pytest.mark.parametrize("last", [LOST, Fault(reply=b"")])
def test_a_killed_sync_goes_on_where_it_was(
    consortium: Consortium, owner: Member, newcomer: Member, model: Path, last: Fault
) -> None:
    weights = model / "weights.tar.gz"
    parts = consortium.layout.containers["model_mlp"]
    add_ballast(parts.additional_files.path, weights, 4 * PIECE_BYTES)
    with proxy(consortium.registry.url) as host:
        owner.environment["MEDPERF_SERVER_URL"] = host.url
        owner.does(*submission(model), "--offline")

        def kill(request: Request) -> Fault:
            if int(request.headers.get("upload-offset", 0)) < 2 * PIECE_BYTES:
                return FINE
            host.faults = lambda _: FINE
            syncing.send_signal(signal.SIGKILL)
            return last

        host.faults = kill
        syncing = owner.start("sync")
        assert syncing.wait(timeout=120) == -signal.SIGKILL
        (done,) = owner.json("sync")["sent"]
        moved = sum(
            int(one.headers["content-length"]) for one in host.requests if one.method == "PATCH"
        )
        # Whether the last piece arrived nobody told.
        everything = sum(path.stat().st_size for path in files(model).values())
        assert weights.stat().st_size <= moved <= everything + PIECE_BYTES
        newcomer.environment["MEDPERF_SERVER_URL"] = host.url
        assert passes(newcomer, done["as"])


def test_a_lost_answer_doubles_nothing(consortium: Consortium, owner: Member, model: Path) -> None:
    with proxy(consortium.registry.url) as host:
        owner.environment["MEDPERF_SERVER_URL"] = host.url
        lost: set[str] = set()

        def lose_each_first(request: Request) -> Fault:
            if request.method not in ("POST", "PATCH") or request.method + request.path in lost:
                return FINE
            lost.add(request.method + request.path)
            return LOST

        host.faults = lose_each_first
        container = owner.json(*submission(model))
        mine = owner.json("container", "ls", "--mine")
        assert [one["id"] for one in mine] == [container["id"]]
        assert {"POST/api/v0/assets/", "POST/api/v0/mlcubes/"} <= lost


def test_one_registry_may_have_several_addresses(
    consortium: Consortium, owner: Member, newcomer: Member, model: Path
) -> None:
    with proxy(consortium.registry.url) as host:
        owner.environment["MEDPERF_SERVER_URL"] = host.url
        container = owner.json(*submission(model))
        assert container["git_mlcube_url"].startswith(host.url)
    # The owner's way is closed to others, and theirs does as well.
    assert passes(newcomer, container["id"])


def test_the_token_goes_to_the_registrys_own_files_alone(tmp_path: Path) -> None:
    data = b"weights"
    name = sha256(data).hexdigest()
    moved: dict[str, str] = {}

    def file(path: str) -> bytes:
        if path in moved:
            return answer("302 Found", b"", f"Location: {moved[path]}")
        return answer("200 OK", data)

    with bad_host(file) as registry, bad_host(file) as other:
        fetcher = Fetcher(
            Storage(tmp_path), own=OwnFiles(registry.url, lambda: TOKEN), first_wait_seconds=0
        )

        def sent(url: str, host: BadHost) -> list[bool]:
            """Of each request for a URL, whether the token was in it."""
            before = len(host.requests)
            with suppress(Offline, Refused):
                fetcher.fetch(url)
            return [f"Bearer {TOKEN}" in request for request in host.requests[before:]]

        path = f"/api/v0/assets/{name}"
        assert sent(registry.url + path, registry) == [True]
        for others in (f"{path}/..", f"{path}?a", "/api/v0/assets/x", "/weights"):
            assert sent(registry.url + others, registry) == [False], others
        # To another host nothing goes, wherever its URL or the registry points.
        assert sent(f"{other.url}/weights", other) == [False]
        moved["/weights"] = registry.url + path
        assert sent(f"{other.url}/weights", registry) == [False]
        moved[path] = f"{other.url}/weights"
        assert sent(registry.url + path, other) == []
        # With its key or without, it is the same file.
        del moved[path]
        assert sent(f"{registry.url}{path}?key={name}", registry) == [True]
        assert registry.paths[-1] == path
        moved[path] = f"{other.url}/weights"
        # Where another registry would have the file, this one is asked first.
        del moved[path]
        before = len(other.requests)
        assert sent(f"{other.url}/elsewhere{path}", registry) == [True]
        assert registry.paths[-1] == path and len(other.requests) == before
