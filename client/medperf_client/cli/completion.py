"""`medperf completion`: the script that completes commands in a shell."""

import click

from medperf_client.cli.base import Command, example


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@example(
    'eval "$(medperf completion bash)"      # in ~/.bashrc',
    'eval "$(medperf completion zsh)"       # in ~/.zshrc',
    "medperf completion fish > ~/.config/fish/completions/medperf.fish",
)
def group(shell: str) -> None:
    """Complete commands in your shell: print a script for it to load."""
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(root, {}, "medperf", "_MEDPERF_COMPLETE").source())
