"""Imports run one way, and never in a circle."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from medperf_client.settings.executors import KINDS

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "medperf_cache": ROOT / "cache",
    "medperf_client": ROOT / "client",
    "medperf_server": ROOT / "server",
}
MAY_IMPORT = {
    "medperf_cache": {"medperf_cache"},
    "medperf_client": {"medperf_client", "medperf_cache"},
    "medperf_server": {"medperf_server"},
}
# The client's wings, from the top: none imports from one above it.
WINGS = (
    *("__main__", "cli", "airgap", "site", "datasets", "executors", "execution"),
    *("exchange", "containers"),
    *(
        "publishing",
        "registry",
        "transfer",
        "ledger",
        "settings",
        "admission",
        "consent",
        "evidence",
        "kinds",
        "disclosure",
        "deadlines",
        "files",
        "spreadsheets",
        "strict_yaml",
        "urls",
        "errors",
    ),
)

# Words of one kind; "member" is also whoever is logged in.
KIND_NAMES = {
    *("benchmark", "benchmarks", "mlcube", "mlcubes", "association", "models"),
    *("dataset", "datasets", "dataset_association", "result"),
}
KIND_MODULE = re.compile(
    r"medperf_client\.kinds\.(benchmark|container|association|dataset|dataset_association|invitation|key|models|ranking|result|user)\b"
)


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for package, root in PACKAGES.items():
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """The absolute names a module imports anywhere, but for type checkers only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def graph() -> dict[str, set[str]]:
    """Which modules of the product each module imports."""
    known = modules()
    edges: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = set()
        for target in imported(path):
            # `from package import name` names a module, or something inside one.
            module = target if target in known else target.rpartition(".")[0]
            if module in known:
                targets.add(module)
        edges[name] = targets - {name}
    return edges


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    edges = graph()
    assert any(name.startswith(package) for name in edges)
    for name, targets in edges.items():
        if name.split(".")[0] == package:
            assert {target.split(".")[0] for target in targets} <= MAY_IMPORT[package], name


def wing(module: str) -> str:
    """The wing of a module of the client."""
    return module.split(".")[1]


def test_no_wing_of_the_client_imports_from_one_above_it() -> None:
    edges = {
        name: {target for target in targets if target.startswith("medperf_client.")}
        for name, targets in graph().items()
        if name.startswith("medperf_client.")
    }
    assert {wing(name) for name in edges} == set(WINGS)
    for name, targets in edges.items():
        for target in targets:
            assert WINGS.index(wing(name)) <= WINGS.index(wing(target)), f"{name} -> {target}"


def test_queues_are_imported_by_nobody_but_found_in_the_list_of_their_kinds() -> None:
    queues = {path.partition(":")[0] for path in KINDS.values()}
    assert queues <= modules().keys()
    assert [name for name, targets in graph().items() if targets & queues] == []


def callers(name: str) -> set[str]:
    """The modules of the client that call something of that name."""
    return {
        module
        for module, path in modules().items()
        if module.startswith("medperf_client.")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and name in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
    }


def test_all_that_goes_to_the_registry_passes_the_ledger() -> None:
    # One place makes the client, with its ledger; one place has it send.
    assert callers("Registry") == {"medperf_client.site"}
    assert callers("whole") == {"medperf_client.registry.client"}


def spelled(path: Path) -> set[str]:
    """Which kinds of entities a module names: by their words, their paths or their modules."""
    tree = ast.parse(path.read_text())
    found = {name for name in imported(path) if KIND_MODULE.match(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= KIND_NAMES & {node.value, *node.value.split("/")}
    return found


@pytest.mark.parametrize("wing", ["exchange", "airgap", "registry", "transfer", "settings"])
def test_what_holds_for_all_kinds_names_none(wing: str) -> None:
    folder = ROOT / "client" / "medperf_client" / wing
    assert {path.name: spelled(path) for path in folder.glob("*.py") if spelled(path)} == {}


def test_the_cache_knows_no_kinds() -> None:
    paths = (ROOT / "cache" / "medperf_cache").rglob("*.py")
    assert {path.name: spelled(path) for path in paths if spelled(path)} == {}


def test_a_kind_is_found_by_its_word_its_path_and_its_module(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "from medperf_client.kinds.benchmark import ROLES\n"
        "def late():\n    return 'mlcube', '/benchmarks/'\n"
    )
    assert spelled(module) == {"medperf_client.kinds.benchmark.ROLES", "mlcube", "benchmarks"}


def test_no_module_imports_itself_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_imports_inside_functions_count_too(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def late():\n    from medperf_client.site import Site\n")
    assert list(imported(module)) == ["medperf_client.site.Site"]


def test_no_test_needs_another_test() -> None:
    # What several need is in tests/support, or in a module beside them that holds no tests.
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / "tests").rglob("*.py")
        for name in imported(path)
        if re.match(r"tests\..*\b(test_\w+|conftest)\b", name)
    }
    assert not found
