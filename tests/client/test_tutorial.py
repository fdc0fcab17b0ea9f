"""The model owner's tutorial works as it is written, and goes on once the network is gone."""

import shutil

from tests.support.consortium import Consortium
from tests.support.reports import MODEL, change_a_weight


def test_the_tutorial_works_to_the_letter_and_then_from_cache(own_consortium: Consortium) -> None:
    consortium = own_consortium
    owner = consortium.member("owner")
    workspace = owner.home.parent
    shutil.copytree(consortium.candidate, (workspace / MODEL).parent)

    assert "breast-cancer" in owner.does("benchmark", "ls")
    tested = owner.does("test", "run", "--benchmark", "1", "--model", MODEL)
    assert "The test passed." in tested

    submitted = owner.run(
        *("container", "submit", "--name", "my-model"),
        *consortium.container_options("model_mlp"),
        "--operational",
        answers="y\n",
    )
    assert "Submitted container 4 (my-model)." in submitted.stdout, submitted.stderr
    listed = owner.does("container", "ls", "--mine").splitlines()
    assert [line.split()[:2] for line in listed] == [["UID", "NAME"], ["4", "my-model"]]

    asked = owner.run(
        *("container", "associate", "--benchmark", "1", "--model_uid", "4"), answers="y\n"
    )
    assert "auroc: 0.9" in asked.stdout and "Requested." in asked.stdout, asked.stderr
    (association,) = owner.json("association", "ls", "-bm")
    assert (association["model_mlcube"], association["benchmark"]) == (4, 1)
    assert association["approval_status"] == "PENDING"
    assert association["metadata"]["test_result"]["auroc"] > 0.95

    consortium.member("committee").does(
        "association", "approve", "--benchmark", "1", "--model_uid", "4", "--yes"
    )
    (association,) = owner.json("association", "ls", "-bm")
    assert association["approval_status"] == "APPROVED"

    consortium.stop()
    offline = owner.run("benchmark", "ls")
    assert "breast-cancer" in offline.stdout and offline.returncode == 0
    assert offline.stderr.startswith("offline: showing the copy of 20")
    change_a_weight((workspace / MODEL).parent)
    report = owner.json("test", "run", "--benchmark", "1", "--model", MODEL)
    ran = [step["step"] for step in report["steps"] if step["source"] == "ran"]
    assert report["passed"] and ran == ["infer", "evaluate"]
