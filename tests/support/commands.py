"""Every command of the client, and a home in which each of them has something to do."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from medperf_cache import Catalog
from medperf_client.evidence.keys import Keys
from medperf_client.evidence.statement import ROLES, of_result, predicate_of, sealed
from medperf_client.kinds.ranking import RANKING, with_answer
from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.sockets import GUARD

# Each of them where q1, a container, and q2, a decision on its association, wait to be sent; and
# datasets: q3, with a request and a result, q6, which is operational, q9, carried away in a file,
# and q11, which is prepared.
COMMANDS = [
    "association approve --benchmark 1 --model_uid 2 -y",
    "association ls -bm",
    "association reject --benchmark 1 --model_uid q1 -y",
    "association set-priority --benchmark 1 --model_uid 2 --priority 1",
    "auth login --token mpf_other",
    "auth logout",
    "auth status",
    "benchmark approve 1 -y",
    "benchmark fetch 1",
    "benchmark follow -b 1 -d q3",
    "benchmark invite 1 grace@example.org",
    "benchmark ls --json",
    "benchmark ranking 1",
    "benchmark reject 1 -y",
    "benchmark results 1",
    "benchmark run -b 1 -d q3",
    "benchmark status 1",
    "benchmark submit --name new --demo-url DEMO -p 1 -m 2 -e 3 -y",
    "benchmark view 1",
    "bundle export all.bundle",
    "bundle export one.bundle --benchmark 1 --queue",
    "bundle import home/queue.bundle",
    "bundle view home/queue.bundle",
    "completion bash",
    "container associate --benchmark 1 --model_uid 2 -y",
    "container create model --output model",
    "container ls --mine",
    "container submit --name x --container-config-file http://h/c.yaml -y",
    "container view q1",
    "dataset associate -d q6 -b 1 -y",
    "dataset export -d q3 -o exported",
    "dataset import -d q9 -i home/exported/q9.tar.gz --raw_dataset_path imported",
    "dataset ls",
    "dataset prepare -d q11 -y",
    "dataset review q3",
    "dataset rm -d q3 -y",
    "dataset set-operational -d q11 -y",
    "dataset submit -p 1 -d DATA/lakeside/measurements -l DATA/lakeside/diagnoses --name new -y",
    "dataset view q3",
    "jobs cancel -y",
    "jobs collect",
    "jobs logs",
    "jobs ls",
    "jobs wait",
    "key create --another",
    "key export",
    "key ls",
    "key revoke q14 -y",
    "policy check POLICY",
    "policy check --benchmark 1 --model 2",
    "policy view",
    "ledger export audit.html --bodies",
    "ledger ls",
    "ledger verify",
    "ledger view 2",
    "profile activate default",
    "profile create other",
    "profile delete spare",
    "profile ls",
    "profile set task_timeout 5",
    "profile view",
    "queue drop q1 -y",
    "queue edit q1 --set name=y",
    "queue export queue.bundle",
    "queue ls --all",
    "queue retry q1",
    "queue resend",
    "queue view q2",
    "result create -b 1 -d q6 -m 2",
    "result export -b 1 -o results.zip",
    "result export -b 1 -o results.csv --format csv",
    "result ls",
    "result verify 7 --key home/public.pem",
    "result review b1m2dq3",
    "result submit -r b1m2dq3 -y",
    "result view b1m2dq3",
    "run -b 1 -d q3 -m 2 -y",
    "storage gc",
    "storage ls",
    "storage share",
    "storage status",
    "storage unpin 1",
    "storage verify",
    "sync",
    "sync --bundle home/queue.bundle",
    "sync --dry-run",
    "test ls",
    "test rm latest",
    "test run --benchmark 1 --model 2 --json",
    "test view latest",
]


@pytest.fixture(scope="session")
def prepared(consortium: Consortium) -> Member:
    """A member who has used benchmark 1 once, with a guard against sockets from then on."""
    member = consortium.member("traveller")
    member.json("association", "ls", "-bm")
    member.json("test", "run", "--benchmark", "1", "--model", "2")
    member.does("benchmark", "fetch", "1")
    member.does("profile", "create", "spare")
    guard = Path(member.home.parent / "guard")
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    member.environment["PYTHONPATH"] = f"{guard}:{member.environment['PYTHONPATH']}"
    return member


def moved(member: Member, home: Path) -> Member:
    """The same member, with a copy of their home."""
    shutil.copytree(member.home, home)
    copy = Member(home, member.environment["MEDPERF_SERVER_URL"])
    copy.environment = {**member.environment, "MEDPERF_HOME": str(home)}
    return copy


@pytest.fixture
def traveller(prepared: Member, tmp_path: Path) -> Member:
    """The prepared member, whose home is the test's own."""
    return moved(prepared, tmp_path / "home")


def one_site(folder: Path, site: str) -> Path:
    """The demo data of one site only."""
    for kind in ("measurements", "diagnoses"):
        (folder / kind).mkdir(parents=True)
        shutil.copy(EXAMPLE / "data" / "demo" / kind / f"{site}.csv", folder / kind)
    return folder


@pytest.fixture(scope="session")
def waiting(prepared: Member, tmp_path_factory: pytest.TempPathFactory) -> Member:
    """The prepared member, with q1 and q2 in the queue and a bundle of them in their home."""
    folder = tmp_path_factory.mktemp("waiting")
    member = moved(prepared, folder / "home")
    for words in (
        "container submit --name q --container-config-file http://h/c.yaml -y",
        "association approve --benchmark 1 --model_uid q1 -y",
    ):
        member.does(*words.split(), "--offline")
    raw = EXAMPLE / "data"
    for name, data in (
        ("demo", raw / "demo"),
        ("hillcrest", raw / "hospitals" / "hillcrest"),
        *((site, one_site(folder / site, site)) for site in ("northgate", "riverside")),
    ):
        paths = ("-d", str(data / "measurements"), "-l", str(data / "diagnoses"))
        words = ("dataset", "submit", "-p", "1", *paths, "--name", name, "-y", "--offline")
        uid = str(member.json(*words)["id"])
        member.does("dataset", "prepare", "-d", uid, "-y", "--offline")
        if name in ("demo", "hillcrest"):
            member.does("dataset", "set-operational", "-d", uid, "-y", "--offline")
    member.does("dataset", "associate", "-d", "q3", "-b", "1", "-y", "--offline")
    exported = str(member.home / "exported")
    member.does("dataset", "export", "-d", "q9", "-o", exported, "--offline")
    member.does("dataset", "rm", "-d", "q9", "-y", "--offline")
    assert member.json("key", "create", "--offline")["id"] == "q14"
    with_a_signed_result(member)
    with_a_ranking(member)
    exporting = moved(member, folder / "exporting")
    exporting.does("queue", "export", str(member.home / "queue.bundle"), "--offline")
    return member


def with_a_signed_result(member: Member) -> None:
    """Have result 7 in a member's catalog, and the key that signed it in their home."""
    (folder,) = member.home.glob("registries/*")
    catalog, pair = Catalog(folder / "catalog"), Keys(folder / "keys").create()
    benchmark, model = catalog.get("benchmark", 1), catalog.get("mlcube", 2)
    assert benchmark is not None and model is not None
    containers = {role: catalog.get("mlcube", benchmark[field]) for role, field in ROLES.items()}
    made = {"partial": False, "made_of": "", "created_at": "", "steps": [], "disclosure": {}}
    known = {role: one for role, one in containers.items() if one}
    came_of = of_result(benchmark, model, {"generated_uid": "d"}, False)
    predicate = predicate_of(made, came_of, known)
    of = {"benchmark": 1, "model": 2, "dataset": 1, "results": {"auroc": 0.9}}
    statement = sealed(of["results"], "b1m2d1", predicate, pair)
    dataset = {"id": 1, "name": "d", "state": "OPERATION", "input_data_hash": "d"}
    catalog.put("dataset", {**dataset, "generated_uid": "d", "data_preparation_mlcube": 1})
    catalog.put("result", {"id": 7, "owner": 9, **of, "metadata": {"statement": statement}})
    (member.home / "public.pem").write_text(pair.public_key)


def with_a_ranking(member: Member) -> None:
    """Have in a member's catalog what a registry answered who asked for a ranking."""
    (folder,) = member.home.glob("registries/*")
    answer = {
        "as_of": "2026-01-01T00:00:00+00:00",
        "metric": {"name": "auroc", "better": "higher"},
        **{"metrics": ["auroc"], "sites": [], "models": [], "left_out": {}},
        **{"is_whole": True, "unsure": ""},
    }
    Catalog(folder / "catalog").put(RANKING.name, with_answer(None, 1, "", answer))


def words_of(command: str, consortium: Consortium, folder: Path) -> list[str]:
    """A command of `COMMANDS` as it is typed; what it reads besides a home is put in a folder."""
    (folder / "policy.yaml").write_text("disclosure: {min_count: 5}\n")
    places = {
        "POLICY": str(folder / "policy.yaml"),
        "DEMO": f"{consortium.host.url}assets/demo_data.tar.gz",
        "DATA": str(EXAMPLE / "data/hospitals"),
    }
    for name, place in places.items():
        command = command.replace(name, place)
    return command.split()


def leaves(command: click.Command, name: str) -> Iterator[str]:
    """The names of all commands that are no groups."""
    if not isinstance(command, click.Group):
        yield name
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        found = command.get_command(context, word)
        assert found is not None
        yield from leaves(found, f"{name} {word}".strip())
