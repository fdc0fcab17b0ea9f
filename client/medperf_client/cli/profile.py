"""`medperf profile`: registries and settings."""

from dataclasses import asdict, replace

import click

from medperf_client.cli.base import Group, example, json_option, site
from medperf_client.cli.text import print_entity, print_json, print_table
from medperf_client.errors import UsageError
from medperf_client.settings.config import Profile, save_config


@click.group(cls=Group)
def group() -> None:
    """Choose a registry and how to work with it."""


@group.command()
@json_option
@example("medperf profile ls")
def ls(as_json: bool) -> None:
    """List the profiles; the active one has a star."""
    config = site().config
    if as_json:
        print_json({"active": config.active, "profiles": list(config.profiles)})
        return
    print_table(
        (" ", "PROFILE", "REGISTRY"),
        [
            ("*" if name == config.active else " ", name, profile.server_url)
            for name, profile in config.profiles.items()
        ],
    )


@group.command()
@click.argument("name", required=False)
@json_option
@example("medperf profile view", "medperf profile view consortium")
def view(name: str | None, as_json: bool) -> None:
    """Show the settings of a profile, the active one by default, and what its containers run on.

    Not every platform can hold a container to everything: what is not held is said, too.
    """
    from medperf_client.containers.platforms import Platforms

    config = site().config
    profile = config.get(name) if name else config.profile
    platforms = Platforms(profile.allow_process, chosen=profile.platform)
    shown = {"name": name or config.active, **asdict(profile), "runs_on": platforms.name}
    not_held = platforms.runner.not_held()
    if as_json:
        print_json({**shown, "not_held": not_held})
        return
    print_entity(shown)
    if not_held:
        click.echo(f"\nOn {platforms.name}, otherwise than on Docker:")
        click.echo("\n".join(f"  {line}" for line in not_held))


@group.command(writes=True)
@click.argument("name")
@click.option("--server-url", help="The registry's URL.")
@example("medperf profile create consortium --server-url https://registry.example.org")
def create(name: str, server_url: str | None) -> None:
    """Make a profile with default settings."""
    here = site()
    if name in here.config.profiles:
        raise UsageError(f"there is a profile {name!r} already")
    profile = Profile().with_text("server_url", server_url) if server_url else Profile()
    save_config(here.config.with_profile(name, profile), here.home.config_file)
    click.echo(f"Created {name}. Use it with: medperf profile activate {name}")


@group.command(writes=True)
@click.argument("name")
@example("medperf profile activate consortium")
def activate(name: str) -> None:
    """Make a profile the active one."""
    here = site()
    here.config.get(name)
    save_config(replace(here.config, active=name), here.home.config_file)
    click.echo(f"{name} is active.")


@group.command("set", writes=True)
@click.argument("setting")
@click.argument("value")
@click.option("--profile", "name", help="The profile to change; the active one by default.")
@example(
    "medperf profile set server_url https://registry.example.org",
    "medperf profile set platform apptainer",
)
def set_(setting: str, value: str, name: str | None) -> None:
    """Change a setting of a profile."""
    here = site()
    name = name or here.config.active
    changed = here.config.get(name).with_text(setting.replace("-", "_"), value)
    if setting == "executor" and changed.executor is not None:
        from medperf_client.executors.executor import executor_of

        # Which says what this kind of queue cannot have.
        executor_of(changed.executor)
    save_config(here.config.with_profile(name, changed), here.home.config_file)
    click.echo(f"{name}: {setting} is {value}")


@group.command(writes=True)
@click.argument("name")
@example("medperf profile delete consortium")
def delete(name: str) -> None:
    """Delete a profile. What was cached from its registry stays."""
    here = site()
    here.config.get(name)
    if name == here.config.active:
        raise UsageError(
            f"{name} is active", hint="Activate another first: medperf profile activate NAME"
        )
    left = {key: value for key, value in here.config.profiles.items() if key != name}
    save_config(replace(here.config, profiles=left), here.home.config_file)
    click.echo(f"Deleted {name}.")
