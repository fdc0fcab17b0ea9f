"""After one `benchmark fetch`, the whole tutorial with the registry away; then one sync."""

import shutil

import pytest

from medperf_client.registry.client import Registry as Client
from tests.support.consortium import Consortium, Member
from tests.support.proxy import Proxy
from tests.support.relay import Relay
from tests.support.reports import MODEL


@pytest.fixture
def proxy(own_consortium: Consortium) -> Proxy:
    """What stands between a site and the registry."""
    return Proxy(own_consortium.registry.url)


@pytest.fixture
def site(own_consortium: Consortium, proxy: Proxy) -> Member:
    """A model owner who has fetched the benchmark; then the network went, and the registry too."""
    site = own_consortium.member("model-owner")
    site.environment["MEDPERF_SERVER_URL"] = proxy.url
    site.does("profile", "set", "allow_process", "true")
    site.does("benchmark", "fetch", "1")
    shutil.copytree(own_consortium.candidate, (site.home.parent / MODEL).parent)
    proxy.stop()
    own_consortium.registry.stop()
    return site


def test_the_tutorial_with_the_registry_away_from_its_first_to_its_last_step(
    own_consortium: Consortium, proxy: Proxy, site: Member
) -> None:
    assert "breast-cancer" in site.does("benchmark", "ls")
    site.does("test", "run", "--benchmark", "1", "--model", MODEL)
    files = own_consortium.container_options("model_mlp")
    words = ("container", "submit", "--name", "my-model", *files, "--operational")
    assert "Queued as q1." in site.does(*words, answers="y\n")
    assert "q1" in site.does("container", "ls", "--mine")
    words = ("container", "associate", "--benchmark", "1", "--model_uid", "q1")
    assert "Queued as q2." in site.does(*words, answers="y\n")
    assert "q1" in site.does("association", "ls", "-bm")
    tested = site.json("test", "view", "latest")

    own_consortium.registry.start()
    proxy.start()
    assert site.json("sync")["sent"] == [{"uid": "q1", "as": 4}, {"uid": "q2", "as": 1}]
    proxy.requests.clear()
    assert site.json("sync")["sent"] == []
    assert [request.method for request in proxy.requests] == ["GET"]

    direct = Client(proxy.url, own_consortium.registry.token_for("model-owner@example.org"))
    me = direct.get("/me/")["id"]
    (container,) = direct.pages("/me/mlcubes/")
    assert (container["id"], container["owner"]) == (4, me)
    assert (container["name"], container["state"]) == ("my-model", "OPERATION")
    parts = ("mlcube", "parameters", "additional_files_tarball", "image")
    assert all(len(container[f"{part}_hash"]) == 64 for part in parts)
    (association,) = direct.get("/mlcubes/4/benchmarks/1/")
    assert (association["initiated_by"], association["approval_status"]) == (me, "PENDING")
    assert association["metadata"]["test_result"] == tested["results"]
    assert tested["passed"] and tested["results"]["auroc"] > 0.95
    (listed,) = site.json("association", "ls", "-bm")
    assert (listed["model_mlcube"], listed["approval_status"]) == (4, "PENDING")


def test_a_sync_with_nothing_new_is_one_request_of_less_than_a_kibibyte(
    own_consortium: Consortium,
) -> None:
    with Relay(own_consortium.registry.port) as relay:
        site = own_consortium.member("site")
        site.environment["MEDPERF_SERVER_URL"] = f"http://127.0.0.1:{relay.port}"
        site.does("sync")
        bytes_before, requests_before = relay.bytes, relay.requests
        site.does("sync")
        assert relay.requests - requests_before == 1
        assert 0 < relay.bytes - bytes_before < 1024
