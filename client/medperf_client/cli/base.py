"""What every command shares: lazy groups, the site, options and questions."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medperf_client.cli.display import Display
from medperf_client.cli.text import plain, print_json
from medperf_client.errors import QUEUED, MedPerfError

if TYPE_CHECKING:  # A command that only shows its help needs none of it.
    from medperf_cache.outbox import Entry
    from medperf_client.kinds.submission import Submission
    from medperf_client.site import Site

Function = TypeVar("Function", bound=Callable[..., Any])


# Whether a command changes the home; of one that may, by its options, what tells.
Writes = bool | Callable[[Mapping[str, Any]], bool]


class Command(click.Command):
    """A command that may be told to work offline.

    One that `writes` does not begin where the home can only be read. All others have to work there.
    """

    def __init__(self, *args: Any, writes: Writes = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writes = writes
        self.params.append(
            click.Option(
                ["--offline"],
                is_flag=True,
                expose_value=False,
                callback=_note_offline,
                help="Open no connection; work from the cache.",
            )
        )

    def writes(self, options: Mapping[str, Any]) -> bool:
        """Whether it changes the home if it is called with these options."""
        return self._writes if isinstance(self._writes, bool) else self._writes(options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Raises `ReadOnly` before anything is done that could not be kept."""
        if self.writes(ctx.params):
            site().home.require_writable()
        return super().invoke(ctx)


def if_given(*names: str) -> Writes:
    """For a command that changes the home where one of these options is given."""
    return lambda options: any(options[name] for name in names)


def _note_offline(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta["offline"] = True


class Group(click.Group):
    """A group whose sub-groups are imported when called, and named in its help without that.

    `modules` maps names to one-line descriptions; `medperf_client.cli.<name>` defines `group`.
    `older` maps names that people still type to those of today, and is not listed.
    Options and commands may be spelt with dashes or with underscores.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        modules: dict[str, str] | None = None,
        older: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("context_settings", {}).update(
            help_option_names=["-h", "--help"],
            token_normalize_func=lambda token: token.replace("_", "-"),
        )
        super().__init__(*args, **kwargs)
        self._modules, self._older = modules or {}, older or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order they were declared."""
        return [*self._modules, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported if it is not yet."""
        cmd_name = self._older.get(cmd_name, cmd_name)
        if cmd_name in self._modules:
            module = importlib.import_module(f"medperf_client.cli.{cmd_name}")
            found: click.Command = module.group
            return found
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; those of `modules` without importing them."""
        if not self._modules:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl(list(self._modules.items()))


def site(fresh: bool = False) -> "Site":
    """The site of the running command; notices and progress go to stderr.

    With `fresh` it is made anew: what was found out of the network before is forgotten.
    """
    from medperf_client.site import Site

    context = click.get_current_context().find_root()
    if fresh or "site" not in context.meta:
        context.meta["site"] = Site(
            offline=context.meta.get("offline", False),
            tell=lambda line: click.echo(plain(line), err=True),
            progress=display().progress,
        )
    found: Site = context.meta["site"]
    return found


def display() -> Display:
    """The progress display of the running command, closed with it."""
    context = click.get_current_context().find_root()
    if "display" not in context.meta:
        context.meta["display"] = Display()
        context.call_on_close(context.meta["display"].close)
    found: Display = context.meta["display"]
    return found


def foreseen(error: Exception) -> MedPerfError | None:
    """What to say of an error of a lower layer that needs no traceback; None for a bug."""
    import sqlite3

    from medperf_cache import CacheError
    from medperf_client.files import WRITE_HINT, hint_for

    if isinstance(error, CacheError):
        return MedPerfError(str(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return MedPerfError(f"{where}{error.strerror or error}", hint_for(error))
    if isinstance(error, sqlite3.Error):
        return MedPerfError(f"the files in MEDPERF_HOME cannot be used: {error}", WRITE_HINT)
    if isinstance(error, RecursionError):
        return MedPerfError("what was read is nested too deeply")
    return None


class Sha256(click.ParamType):
    """A SHA-256, however it was written; in the cache's own form."""

    name = "sha256"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """64 lower-case hexadecimal digits, or nothing if that is the default."""
        text = str(value).lower().removeprefix("sha256:")
        if text and not re.fullmatch("[0-9a-f]{64}", text):
            self.fail(f"{value!r} is no SHA-256, which has 64 hexadecimal digits", param, ctx)
        return text


class Uid(click.ParamType):
    """A UID of the registry, or one of the queue's own: q1, q2 and so on."""

    name = "uid"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """A number, or the provisional UID."""
        text = str(value)
        if re.fullmatch("q[1-9][0-9]{0,17}", text):
            return text
        if re.fullmatch("[1-9][0-9]{0,17}", text):
            return int(text)
        self.fail(f"{value!r} is no UID: it is a number such as 4, or q4 in the queue", param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
yes_option = click.option("-y", "--yes", "--approval", "yes", is_flag=True, help="Do not ask.")
cache_option = click.option("--no-cache", is_flag=True, help="Run every step, even unchanged ones.")
dataset_option = click.option(
    "-d", "--data_uid", "dataset", type=Uid(), required=True, help="UID of the dataset."
)
online_option = click.option(
    "--require-online", is_flag=True, help="Exit with 3 if it could only be queued."
)
prepared_option = click.option(
    *("--skip-demo-data-preparation", "prepared"),
    is_flag=True,
    help="The data given are prepared: check and use them as they are.",
)
mine_option = click.option("--mine", is_flag=True, help="Only what you own.")


limit_option = click.option(
    "--limit",
    type=click.IntRange(0),
    help="Only so many of the newest; 0 for all.  [default: 50, with --json all]",
)
SHOWN = 50


def shown(kind: str, as_json: bool, limit: int | None, mine: bool = False) -> list[dict[str, Any]]:
    """The entities of a type that a list shows; says so if there are more."""
    here = site()
    here.freshen()
    limit = (0 if as_json else SHOWN) if limit is None else limit
    entities = here.listed(kind, mine, limit)
    total = here.catalog.count(kind)
    if limit and not mine and total > limit:
        click.echo(f"the newest {limit} of {total}; --limit 0 shows all", err=True)
    return entities


def example(*lines: str) -> Callable[[Function], Function]:
    """Put an example below a command's description."""

    def add(function: Function) -> Function:
        shown = "\n".join(f"  {line}" for line in lines)
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nExample:\n{shown}"
        return function

    return add


def deliver(
    submission: "Submission",
    as_json: bool,
    require_online: bool,
    said: Callable[[dict[str, Any]], str],
) -> None:
    """Send a submission, or queue it, and say which; `said` words what the registry took."""
    tell_delivered(site().submit(submission), as_json, require_online, said)


def tell_delivered(
    entry: "Entry",
    as_json: bool,
    require_online: bool,
    said: Callable[[dict[str, Any]], str],
) -> None:
    """Say whether a submission was sent, or is queued; see `deliver`."""
    from medperf_cache.outbox import SENT

    if entry.state == SENT:
        answer = entry.answer or {}
        print_json(answer) if as_json else click.echo(plain(said(answer)))
        return
    if as_json:
        print_json({"id": entry.uid, "queued": entry.state, "reason": entry.reason})
    else:
        click.echo(plain(f"Queued as {entry.uid}. Send it with: medperf sync"))
        if entry.reason:
            click.echo(plain(entry.reason), err=True)
    if require_online:
        sys.exit(QUEUED)


def confirm(question: str, yes: bool) -> None:
    """Go on if the user agrees; else leave with exit code 1, nothing done."""
    if not agrees(question, yes):
        click.echo("Nothing was sent.", err=True)
        sys.exit(1)


def agrees(question: str, yes: bool) -> bool:
    """Whether the user agrees; `yes` says so beforehand."""
    # What is live on the terminal would write over the question, and over what follows it.
    display().close()
    if yes:
        return True
    # Not `click.confirm`, which writes a space to stdout, where a script reads the result.
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        click.echo("\nNobody is there to answer; -y agrees beforehand.", err=True)
    return answer.strip().lower() in ("y", "yes")


def show_before(body: dict[str, Any], yes: bool) -> None:
    """Show what is about to leave the site to who is going to be asked."""
    from medperf_cache.outbox import REFERENCE, is_reference
    from medperf_client.cli.text import print_entity

    if not yes:
        click.echo("This will be sent to the registry:", err=True)
        named = {
            name: value[REFERENCE] if is_reference(value) else value for name, value in body.items()
        }
        print_entity(named, err=True)
