"""The site's guide works as it is written: a hospital behind an air gap, and an office outside."""

import shutil
from pathlib import Path

from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.forks import ROOT
from tests.support.tutorials import typed

GUIDE = ROOT / "docs" / "site-guide.md"


def test_the_round_trip_over_an_air_gap(own_consortium: Consortium, tmp_path: Path) -> None:
    owner, committee = own_consortium.member("owner"), own_consortium.member("committee")
    options = own_consortium.container_options("model_mlp")
    owner.does("container", "submit", "--name", "my-model", *options, "--operational", "-y")
    owner.does("container", "associate", "--benchmark", "1", "--model_uid", "4", "-y")
    committee.does("association", "approve", "--benchmark", "1", "--model_uid", "4", "-y")
    office = own_consortium.member("hospital")
    site = own_consortium.member("hospital", home="site")
    # There is no network to log in by, either.
    del site.environment["MEDPERF_TOKEN"]
    site.environment["MEDPERF_OFFLINE"] = "1"
    shutil.copytree(EXAMPLE / "data" / "demo", tmp_path / "work" / "hospital")
    (tmp_path / "work" / "usb").mkdir()

    said = {}
    for command in typed(GUIDE):
        if command.heading == "Models on a cluster":
            continue
        who: Member = office if "At the office" in command.heading else site
        done = who.run(*command.words, answers="y\n", cwd=tmp_path / "work")
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said[str(command)] = done.stdout
        if command.words[-1] == "usb/request.bundle":
            committee.does("association", "ls", "-bd")
            committee.does("association", "approve", "--benchmark", "1", "--dataset", "1", "-y")

    assert site.json("queue", "ls") == []
    released = {one["uid"]: one["registered"] for one in site.json("result", "ls")}
    assert released == {"b1m2d1": 1, "b1m4d1": 2}
    rows = committee.json("benchmark", "results", "1")
    assert [(row["site"], row["name"]) for row in rows] == [
        ("hospital", "model_logistic"),
        ("hospital", "my-model"),
    ]
    carried = (tmp_path / "work" / "usb").rglob("*")
    assert all(b"P6370279" not in path.read_bytes() for path in carried)


def test_a_receipt_tells_what_became_of_a_dataset_that_was_registered_before(
    own_consortium: Consortium, tmp_path: Path
) -> None:
    site = own_consortium.member("hospital")
    office = own_consortium.member("hospital", home="office")
    demo = EXAMPLE / "data" / "demo"
    paths = ("-d", str(demo / "measurements"), "-l", str(demo / "diagnoses"))
    site.does("dataset", "submit", "-b", "1", *paths, "--name", "hospital", "-y")
    site.does("benchmark", "fetch", "1")
    site.environment["MEDPERF_OFFLINE"] = "1"
    site.does("dataset", "prepare", "-d", "1")
    site.does("dataset", "set_operational", "-d", "1", "-y")
    queue = str(tmp_path / "queue.bundle")
    site.does("bundle", "export", queue, "--queue")
    office.does("sync", "--bundle", queue)
    site.does("bundle", "import", f"{queue}.receipt")
    (seen,) = site.json("dataset", "ls")
    assert seen["state"] == "OPERATION" and seen["generated_metadata"]["patients"] > 200
    assert site.json("result", "create", "-b", "1", "-d", "1", "-m", "2")[0]["error"] is None
