"""What the documents say is what the product does."""

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.forks import IMPORT_ROOTS, ROOT


def test_the_command_reference_is_up_to_date(tmp_path: Path) -> None:
    # In a process of its own: other tests have made the commands cache other contexts.
    fresh = tmp_path / "cli.md"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    script = str(ROOT / "scripts" / "cli_reference.py")
    subprocess.run([sys.executable, script, str(fresh)], env=environment, check=True)
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == fresh.read_text(), "run: python scripts/cli_reference.py"


def test_the_example_configuration_is_read_and_names_every_setting() -> None:
    from medperf_client.settings.config import Profile, load_config

    file = ROOT / "config.example.yaml"
    config = load_config(file)
    assert config.profile.server_url == "https://registry.example.org"
    assert set(config.profiles) == {"consortium", "laptop"}
    for setting in asdict(Profile()):
        assert re.search(rf"^    {setting}: ", file.read_text(), re.MULTILINE), setting


DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("", "docs", "examples")
    for path in sorted((ROOT / folder).glob("*.md"))
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folder = ROOT
    named = 0
    for line in text.partition("```text")[2].partition("```")[0].splitlines():
        if match := re.match(r"(\S+)/ ", line):
            folder = ROOT / match[1]
            assert folder.is_dir(), folder
        for name in re.findall(r"\b(\w+(?:\.py|/))(?=\s)", line[:26]) if line[:1] == " " else ():
            named += 1
            assert (folder / name).exists(), folder / name
    assert named > 20


def _commands_of(path: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("medperf ")]


def test_every_command_in_the_readme_exists() -> None:
    import click

    from medperf_client.cli import medperf

    commands = _commands_of(ROOT / "README.md")
    assert len(commands) > 5
    for line in commands:
        command: click.Command = medperf
        context = click.Context(medperf)
        for word in line.split()[1:]:
            if not isinstance(command, click.Group):
                break
            found = command.get_command(context, word.replace("_", "-"))
            assert found is not None, line
            command = found
        known = {option for parameter in command.params for option in parameter.opts}
        used = set(re.findall(r"(?<=\s)--?[a-z_-]+", line.partition("#")[0]))
        normalised = {option.replace("_", "-") for option in known}
        assert {option.replace("_", "-") for option in used} <= normalised, line


def test_the_glossary_has_every_state_of_a_queue_entry() -> None:
    from medperf_cache import outbox

    # `SENT = "sent"` and its like.
    states = {value for name, value in vars(outbox).items() if value == name.lower()}
    assert {outbox.SENT, outbox.SUPERSEDED} <= states
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(states)


def test_the_formats_on_disk_are_told_with_their_marks() -> None:
    from medperf_cache import names, outbox
    from medperf_cache.bundle import manifest
    from medperf_client.airgap import carried
    from medperf_client.exchange import past
    from medperf_client.ledger import records

    told = (ROOT / "docs" / "formats.md").read_text()
    keys = [*outbox.ROWS, past.GHOST, past.GONE, *names.DERIVED]
    documents = [carried.CATALOG, carried.NAMES, carried.MEMO, carried.OUTBOX]
    events = [records.BEGAN, records.WRITE, records.EXPORT, records.ANSWER]
    formats = (manifest.FORMAT, records.FORMAT)
    for word in (*formats, *keys, *(f"\n| `{name}` |" for name in [*documents, *events])):
        assert word in told, word


def _unnamed(path: str) -> str:
    """A path without the names of what stands in it, and without the slash at its end."""
    return re.sub(r"<[^>]*>", "<>", path).rstrip("/")


def test_the_api_is_told_as_it_is_served(tmp_path: Path) -> None:
    from medperf_server.app import create_app

    prefix = "/api/v0"
    rules = create_app(f"sqlite:///{tmp_path / 'registry.db'}").url_map.iter_rules()
    served = {
        (method, _unnamed(rule.rule.removeprefix(prefix)))
        for rule in rules
        if rule.rule.startswith(f"{prefix}/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    text = (ROOT / "docs" / "wire-api.md").read_text()
    rows = re.findall(r"^\| ([A-Z]+) \| `(/[^`]*)` \|", text, re.MULTILINE)
    assert {(method, _unnamed(path)) for method, path in rows} == served
    assert len(rows) == len(served)
    # Those in sentences, too: `/docs`, `GET /changes/?since=0`.
    named = {_unnamed(path) for path in re.findall(r"`(?:[A-Z]+ )?(/[^`?\s]*)[^`]*`", text)}
    assert named - {prefix} == {path for _, path in served}


def test_the_limits_of_the_api_are_told_as_they_are() -> None:
    from medperf_server import config
    from medperf_server.assets.receiving import MOST_BEGUN

    limits = (
        (ROOT / "docs" / "wire-api.md").read_text().partition("## Limits")[2].partition("##")[0]
    )
    for told in (
        f"at most {config.MAX_BODY_BYTES >> 20} MiB",
        f"at most {config.MAX_JSON_BYTES >> 10} KiB",
        f"about {config.MAX_PAGE_BYTES >> 20} MiB",
        f"{MOST_BEGUN:,} uploads",
        f"{int(config.RATE_LIMIT.removesuffix('/minute')):,} times a minute",
    ):
        assert told in limits, told


def test_the_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    # What has a slash in it is a path from the root, `kinds/<kind>/` as far as `kinds/`.
    paths = set(re.findall(r"[\w.-]+(?:/[\w.-]+)*/(?:[\w-][\w.-]*\w)?", text))
    # What the reader makes first.
    paths -= {".venv/bin/activate"}
    assert len(paths) > 30
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []
    # A file without a folder is one of a kind, or of the pages.
    server = ROOT / "server" / "medperf_server"
    names = {path.name for part in ("kinds", "web") for path in (server / part).rglob("*.*")}
    assert set(re.findall(r"`(\w+\.\w+)`", text)) <= names
