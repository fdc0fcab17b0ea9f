"""The demo's second half: two hospitals evaluate a benchmark's models, one of them offline."""

import json
import shutil
import subprocess
from pathlib import Path

from cast import Browser, Member, Network, say

DATA = Path(__file__).resolve().parent.parent / "examples" / "breast_cancer" / "data" / "hospitals"
# What hillcrest's files lack, or have wrong, by patient.
RIGHT = {"P7924216": "25.11", "P2732679": "11.6", "P2075302": "0"}
# What Lakeside's privacy officer wants: 22 of its 60 patients are malignant.
POLICY = "disclosure: {min_count: 25}"


def play_hospitals(people: dict[str, Member], network: Network, page: Path) -> None:
    """The data owner's tutorial, by two of them; the leaderboard is kept as `page`."""
    committee, lakeside, hillcrest = (people[who] for who in ("committee", "lakeside", "hillcrest"))
    for hospital in (lakeside, hillcrest):
        shutil.copytree(DATA / hospital.who, hospital.folder / hospital.who)
    with_the_network(lakeside, committee)
    without_a_network(hillcrest, committee, network)
    say("The committee sees the results of both hospitals beside each other")
    committee.types("benchmark", "results", "1", "--metric", "patients", "--metric", "auroc")
    rank(committee, network, page)


def with_the_network(hospital: Member, committee: Member) -> None:
    """The tutorial of data owners as it is written."""
    say("1. Lakeside registers its data: they stay where they are")
    submit(hospital)
    hospital.types("dataset", "ls", "--mine")
    say("2. It prepares them")
    hospital.types("dataset", "prepare", "--data_uid", "1", answers="y\n")
    say("Its policy: fewer than 25 patients are few. So a count is found before it leaves")
    writes_policy(hospital)
    ready = ("dataset", "set_operational", "--data_uid", "1")
    hospital.types(*ready, fails=True)
    say("It is left out, and the other one, from which it follows")
    hospital.types("dataset", "review", "1", "--redact", "malignant", "--redact", "benign")
    hospital.types(*ready, answers="y\n")
    say("3. It asks to take part: the reference model runs on its data first")
    ask(hospital, "1", fails=True)
    say("The share of malignant patients tells how many they are: it is left out, too")
    leave_the_share_out(hospital, "b1m2d1")
    ask(hospital, "1")
    approve(committee, "1")
    say("4. It runs all models, and releases their results")
    hospital.types("benchmark", "run", "--benchmark", "1", "--data_uid", "1")
    leave_the_share_out(hospital, "b1m4d1")
    hospital.types("key", "create", "--name", hospital.who)
    release(hospital, "1")
    say("All that left Lakeside is in its ledger")
    hospital.types("ledger", "ls")
    hospital.types("ledger", "verify")


def without_a_network(hospital: Member, committee: Member, network: Network) -> None:
    """The same at a hospital that has a network now and then."""
    say("Hillcrest brings along what the benchmark needs. Then its network is gone")
    hospital.types("benchmark", "fetch", "1")
    network.goes()
    say("It registers its data, and prepares them in stages: the sanity check finds flaws")
    submit(hospital)
    hospital.types("dataset", "prepare", "--data_uid", "q1", answers="y\n", fails=True)
    hospital.types("dataset", "view", "q1")
    say("Somebody looks the three patients up, and corrects them by hand")
    correct(hospital, "q1")
    hospital.types("dataset", "prepare", "--data_uid", "q1", answers="y\n")
    hospital.types("dataset", "set_operational", "--data_uid", "q1", answers="y\n")
    say("It asks to take part, runs what it has, and releases that: all of it waits")
    ask(hospital, "q1")
    hospital.types("benchmark", "run", "--benchmark", "1", "--data_uid", "q1")
    release(hospital, "q1")
    hospital.types("queue", "ls")
    say("The network is back for a moment: one sync, the committee's decision, one more sync")
    network.returns()
    hospital.types("sync")
    approve(committee, "2")
    hospital.types("sync")
    say("Now that it takes part it may know all models: it brings them along, and is offline again")
    hospital.types("benchmark", "fetch", "1", "--data_uid", "2")
    network.goes()
    hospital.types("benchmark", "run", "--benchmark", "1", "--data_uid", "2")
    release(hospital, "2")
    say("The network is back, and all that waited goes out")
    network.returns()
    hospital.types("sync")
    hospital.types("result", "ls")


def rank(committee: Member, network: Network, page: Path) -> None:
    """What the results may claim together: on the command line, and as a page with its plot."""
    say("Who is ahead, and which models cannot be told apart")
    committee.types("benchmark", "ranking", "1")
    words = ("token", "create", f"{committee.who}@example.org", "--name", "browser", "--quiet")
    token = network.registry.types(*words).strip()
    browser = Browser(committee.who, network.registry.url, token)
    shown = browser.saves("/benchmarks/1/leaderboard", page)
    plots = shown.count('<svg class="forest"')
    if not plots or "random effects of 2 sites" not in shown:
        raise SystemExit("It has no forest plot of both sites and of what they found together.")
    print(f"    It has {plots} forest plots, with a table beside each.", flush=True)


def verify(people: dict[str, Member], network: Network) -> None:
    """A signed result, as it was released, and after somebody changed it in the database."""
    hospital, committee = people["lakeside"], people["committee"]
    say("Lakeside signed its results. With its public key the committee verifies one")
    public_key = f"{hospital.who}.pub.pem"
    hospital.types("key", "export", "--output", public_key)
    committee.types("result", "verify", "1", "--key", public_key)
    say("Whoever has the database can make a model look better: that is found out")
    network.registry.tampers("UPDATE results SET results = json_set(results, '$.auroc', 0.999)")
    verifying = ("result", "verify", "1", "--key", public_key)
    people["administrator"].types(*verifying, fails=True)


def submit(hospital: Member) -> None:
    """Register a hospital's data, for benchmark 1."""
    hospital.types(
        *("dataset", "submit", "--benchmark", "1"),
        *("--data_path", f"{hospital.who}/measurements"),
        *("--labels_path", f"{hospital.who}/diagnoses"),
        *("--name", hospital.who, "--description", "Fine-needle biopsies"),
        *("--location", hospital.who.capitalize()),
        answers="y\n",
    )


def correct(hospital: Member, dataset: str) -> None:
    """Write what is right where the preparator asks for it, in the dataset's folder."""
    told = subprocess.run(  # nosec B607 # as a person types it
        ["medperf", "dataset", "view", dataset, "--json"],
        cwd=hospital.folder,
        env=hospital.environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    waiting = Path(json.loads(told)["here"]["folder"], "data", "to_correct")
    for patient, value in RIGHT.items():
        path = waiting / f"{patient}.csv"
        heading, row = path.read_text(encoding="utf-8").splitlines()
        column, _, problem = row.split(",", 2)
        print(f"\n[{hospital.who}] edits {path}:\n    {row}\n    {column},{value},{problem}")
        path.write_text(f"{heading}\n{column},{value},{problem}\n", encoding="utf-8")


def writes_policy(hospital: Member) -> None:
    """Have a hospital's policy where it counts."""
    file = Path(hospital.environment["MEDPERF_HOME"], "policy.yaml")
    print(f"\n[{hospital.who}] writes {file}:\n    {POLICY}", flush=True)
    file.write_text(POLICY + "\n", encoding="utf-8")


def leave_the_share_out(hospital: Member, result: str) -> None:
    """Leave out of a result what tells how many patients are malignant."""
    hospital.types("result", "review", result, "--redact", "malignant_share")


def ask(hospital: Member, dataset: str, fails: bool = False) -> None:
    """Request that a dataset takes part in benchmark 1."""
    hospital.types(
        *("dataset", "associate", "--data_uid", dataset, "--benchmark_uid", "1"),
        answers="y\n",
        fails=fails,
    )


def approve(committee: Member, dataset: str) -> None:
    """The committee's decision."""
    say(f"The committee sees the request of dataset {dataset}, and approves it")
    committee.types("association", "ls", "-bd")
    committee.types("association", "approve", "--benchmark", "1", "--dataset", dataset, "--yes")


def release(hospital: Member, dataset: str) -> None:
    """Show all results that were not released, and release them."""
    hospital.types(
        *("result", "submit", "--all", "--benchmark", "1", "--data_uid", dataset), answers="y\n"
    )
