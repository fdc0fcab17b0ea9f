"""What the documents say is what the product does."""

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.registry import IMPORT_ROOTS, ROOT


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


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md", "examples/README.md"])
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
            found = command.get_command(context, word)
            assert found is not None, line
            command = found
        known = {option for parameter in command.params for option in parameter.opts}
        used = set(re.findall(r"(?<=\s)--?[a-z_-]+", line.partition("#")[0]))
        normalised = {option.replace("_", "-") for option in known}
        assert {option.replace("_", "-") for option in used} <= normalised, line
