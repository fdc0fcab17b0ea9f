"""The `medperf-server` command: set the registry up, admit members, serve, look after it."""

import click

from medperf_server.cli import audit, invite, notify, serving, token, upkeep, user
from medperf_server.cli.base import Plain


@click.group(cls=Plain, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The registry of a MedPerf consortium.

    The database is SQLite in ./instance/ unless MEDPERF_DATABASE_URL holds another SQLAlchemy URL.

    \b
    Example:
      medperf-server init
      medperf-server user add ada@example.org --admin
      medperf-server run
    """


main.add_command(serving.init)
main.add_command(serving.run)
main.add_command(notify.notify)
main.add_command(upkeep.check)
main.add_command(upkeep.backup)
main.add_command(upkeep.restore)
main.add_command(upkeep.renew_links)
main.add_command(user.group, "user")
main.add_command(token.group, "token")
main.add_command(invite.group, "invite")
main.add_command(audit.group, "audit")
