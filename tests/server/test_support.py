"""The rule for services that a machine may lack."""

import pytest

from tests.support.services import require


def test_a_missing_service_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDPERF_TEST_REQUIRE", "docker")
    with pytest.raises(pytest.skip.Exception, match="needs postgres: not installed"):
        require("postgres", False, "not installed")


def test_a_required_service_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDPERF_TEST_REQUIRE", "docker, postgres")
    with pytest.raises(pytest.fail.Exception, match="postgres is required here"):
        require("postgres", False, "not installed")


def test_a_present_service_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDPERF_TEST_REQUIRE", "docker")
    require("docker", True, "it is here")
