"""A registry without room says so, keeps nobody waiting for it, and goes on with all else."""

import json
from pathlib import Path

import pytest

from tests.support.api import Member, container_body
from tests.support.disks import full
from tests.support.registry import Registry
from tests.support.tus import MIB, begun, content, held, offset, patch, send

# One that is not kept in memory while it comes.
LARGE = 8 * MIB


def test_a_small_tmpdir_is_none_of_an_uploads_business(tmp_path: Path, small_disk: Path) -> None:
    for served in Registry.serving(tmp_path / "registry", TMPDIR=str(small_disk)):
        ada = Member(served, "ada")
        send(ada, content(LARGE))
        assert sum(held(ada).values()) == LARGE
        assert (served.folder / "assets" / "staging").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("setting", ["MEDPERF_STAGING", "MEDPERF_ASSETS"])
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "in chunks"])
def test_a_file_without_room_is_507_in_words(
    tmp_path: Path, small_disk: Path, setting: str, chunked: bool
) -> None:
    for served in Registry.serving(
        tmp_path / "registry",
        **{"MEDPERF_STAGING": str(tmp_path / "staging"), setting: str(small_disk)},
    ):
        ada, data = Member(served, "ada"), content(LARGE)
        path = begun(ada, data)
        body = (data[start : start + MIB] for start in range(0, LARGE, MIB))
        answer = patch(ada, path, 0, body if chunked else data)
        assert answer.status_code == 507, answer.text
        assert "disk is full" in answer.json()["detail"]
        assert offset(ada, path) == 0
        # All else goes on, and so does what there is room for.
        assert ada.container()["owner"] == ada.uid
        assert patch(ada, path, 0, data[:MIB]).status_code == 204


def test_a_database_without_room_says_so_too(tmp_path: Path, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'registry.db'}"
    settings = {"MEDPERF_ASSETS": str(tmp_path / "assets")}
    for served in Registry.serving(tmp_path / "registry", url, **settings):
        ada = Member(served, "ada")
        large = {"metadata": {"weights": "x" * 200_000}}
        with full(small_disk):
            answers = [ada.post("/mlcubes/", container_body(**large)) for _ in range(30)]
            assert ada.get("/me/").status_code == 200
        refused = [answer for answer in answers if answer.status_code != 201]
        assert refused and {answer.status_code for answer in refused} == {507}
        assert "disk is full" in refused[0].json()["detail"]
        assert ada.container(**large)["owner"] == ada.uid


def test_a_check_looks_where_requests_are_kept(tmp_path: Path, small_disk: Path) -> None:
    served = Registry(tmp_path / "registry", MEDPERF_STAGING=str(small_disk))
    served.initialise()
    found = json.loads(served.invoke("check", "--json").stdout)
    troubles = {one["what"]: one["trouble"] for one in found}
    assert "make room" in troubles[f"there is room in {small_disk}"]
    assert troubles[f"{small_disk} can be written to"] is None
