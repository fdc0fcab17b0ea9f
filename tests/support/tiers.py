"""Which tests run when: what `scripts/test` leaves to `--all`, and in what order they are shared.

A test that is left to `--all` is as it is in every other respect; nothing else is left out, but
twins on PostgreSQL of tests that no engine of a database makes a difference to (`one_engine`).
"""

import re
from collections import Counter
from typing import Any

import pytest

# A machine has one engine: tests on it run one after the other.
ON_AN_ENGINE = re.compile("tests/(containers/|client/test_(apptainer|docker|engines|many_models))")
# Each of these takes long, and no fixture of theirs does.
BY_THEMSELVES = "tests/fuzz/"
# Where several processes share the work, what takes long is begun first, so that none of them is
# left alone with it at the end. About how many seconds; of others, so many tests take one.
SECONDS = {
    "tests/fuzz/test_pages.py::test_what_is_stored_is_only_shown": 45,
    "engine": 580,
    "tests/server/test_backup.py": 90,
    "tests/server/test_assets.py": 55,
    "tests/browser/test_pages.py": 55,
    "tests/server/test_page_bounds.py": 80,
    "tests/client/test_following.py": 90,
    "tests/client/test_slurm.py": 400,
    "tests/client/test_slurm_nodes.py": 90,
    "tests/client/test_slurm_tests.py": 60,
    "tests/client/test_slurm_parts.py": 50,
    "tests/client/test_slurm_kills.py": 150,
    "tests/client/test_slurm_left.py": 70,
    "tests/client/test_slurm_accounting.py": 40,
    "tests/client/test_another_queue.py": 100,
    "tests/client/test_parts.py": 120,
    "tests/client/test_consent.py": 90,
    "tests/client/test_bundle.py": 60,
    "tests/client/test_carrying.py": 60,
    "tests/client/test_data_bundles.py": 60,
    "tests/server/test_role_matrix.py": 60,
    "tests/server/test_mail.py": 100,
    "tests/faults/test_read_only.py": 45,
    "tests/server/test_assets_trouble.py": 40,
    "tests/schema/test_schema.py": 40,
    "tests/client/test_sync.py": 30,
    "tests/client/test_ledger.py": 40,
    "tests/client/test_provisions.py": 30,
    "tests/client/test_members.py": 25,
    "tests/client/test_uploads.py": 25,
    "tests/browser/test_journey.py": 20,
    "tests/faults/test_ledger_kills.py": 30,
    "tests/faults/test_many_pasts.py": 20,
    "tests/faults/test_worker_kills.py": 20,
    "tests/faults/test_another_past.py": 45,
    "tests/faults/test_disk_full.py": 15,
    "tests/faults/test_watch.py": 15,
    "tests/client/test_kill.py": 15,
    "tests/fuzz/test_commands.py::test_what_the_registry_says_is_only_shown": 10,
    "tests/fuzz/test_commands.py::test_what_is_here_of_others_is_only_shown": 8,
    "tests/fuzz/test_commands.py::test_each_word_that_is_known_to_harm_is_only_shown": 8,
}
TESTS_A_SECOND = 10

# What only `--all` runs: what takes long, of what few changes touch.
WITH_ALL = (
    # Drawn from all that can be written, and shown by each command and each page.
    "tests/fuzz/",
    "tests/schema/test_schema.py",
    # Each page in each colour and width; tests/server reads the same pages.
    "tests/browser/",
    # Homes that are put back, full, read-only or killed, again and again.
    "tests/faults/test_(another_past|disk_full|ledger_kills|many_pasts|read_only|sync_kills|watch)",
    "tests/(cache/test_kills|client/test_data_owner_kills)",
    "tests/client/test_read_only_home.py::test_every_command",
    "tests/examples/test_staged.py::test_it_may_be_killed",
    # Whole consortia with an air gap between them; tests/client/test_bundle.py is of each part.
    "tests/client/test_(carrying|data_bundles)",
    # A stand-in for S3, which is slow to start and to answer; folders are tried all day.
    r"tests/server/test_assets.py.*\[bucket",
    # Podman, Apptainer, and Docker's containerd store, beside Docker's classic one.
    r"tests/containers/.*\[(podman|containerd|apptainer)",
    "tests/containers/test_apptainer.py",
    "tests/client/test_apptainer.py",
    "tests/client/test_docker_images.py",
    "tests/client/test_engines.py",
    # A whole cluster, whose nodes are lost and whose clocks run out.
    "tests/client/test_slurm",
    "tests/client/test_many_models.py",
    "tests/containers/test_queued.py::test_apptainer_gives_in_a_queue_what_it_gives_here",
    # It writes gigabytes.
    "tests/containers/test_freedom.py::test_its_tmp_takes_more_than_its_memory",
    # A whole consortium; the tutorials are tried without it.
    "tests/project/test_scripts.py::test_the_demo_plays_to_its_end",
    # Gunicorn, large files, floods.
    "tests/server/test_assets_trouble.py",
    "tests/server/test_deploy.py",
    "tests/server/test_many_uploads.py",
    "tests/server/test_page_bounds.py::test_three_at_once_read_everything",
    "tests/server/test_worker.py",
    "tests/faults/test_worker_kills.py",
)
# Where `scripts/test` runs on PostgreSQL what it runs on SQLite. The engines differ in how they
# lock, order, bound and keep what is written; of the rest only `--all` sees that it is the same.
ON_EACH_ENGINE = (
    "tests/server/test_audit.py",
    "tests/server/test_changes.py",
    "tests/server/test_check.py",
    "tests/server/test_concurrency.py",
    "tests/server/test_health.py",
    "tests/server/test_idempotency.py",
    # Who sends alone, and what a sender leaves that is killed.
    "tests/server/test_mail.py::test_(killed|two_senders|a_sender)",
    "tests/server/test_migrations.py",
    "tests/server/test_page_bounds.py",
    "tests/server/test_private_benchmarks.py",
)


def listed(nodeid: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns is of this test."""
    return any(re.match(pattern, nodeid) for pattern in patterns)


def unit(nodeid: str) -> str:
    """What a process takes on as a whole: a file, whose fixtures its tests share."""
    if nodeid.startswith(BY_THEMSELVES):
        return nodeid
    return "engine" if ON_AN_ENGINE.match(nodeid) else nodeid.partition("::")[0]


def is_asked_for(item: pytest.Item, everything: bool) -> bool:
    """Whether a test runs, in all tests or in those of every day."""
    twin = "postgres" in getattr(item, "callspec", _NoParameters).params.values()
    if twin and item.get_closest_marker("one_engine"):
        return False
    if everything:
        return True
    if twin and not listed(item.nodeid, ON_EACH_ENGINE):
        return False
    return not listed(item.nodeid, WITH_ALL)


class _NoParameters:
    params: dict[str, Any] = {}


def longest_first(items: list[pytest.Item]) -> None:
    """Put first the units that take longest; the tests of one stay in their order."""
    tests = Counter(unit(item.nodeid) for item in items)
    items.sort(key=lambda item: -_seconds(unit(item.nodeid), tests))


def _seconds(name: str, tests: Counter[str]) -> float:
    return SECONDS.get(name.partition("[")[0], tests[name] / TESTS_A_SECOND)
