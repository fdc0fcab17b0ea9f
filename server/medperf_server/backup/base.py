"""What a backup asks of a database, whatever engine it runs on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select

from medperf_server.kinds.user.table import User
from medperf_server.models import Asset

# Brings the database with this URL to the newest revision, before anyone sees it.
Prepare = Callable[[str], None]


class Refused(Exception):
    """A backup or a restore cannot be made, and nothing was changed; the text says what to do."""


class Database(ABC):
    """A registry's database, to copy from and to put a copy into."""

    engine_name: str

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @abstractmethod
    def snapshot(self, target: Path) -> dict[str, int]:
        """Copy the database, as it is at one moment, to a file; the size of each asset in it.

        Others may read and write meanwhile. Raises `Refused`.
        """

    @abstractmethod
    def check(self, copy: Path) -> None:
        """Raise `Damaged` if a copy cannot be what `snapshot` made, `Refused` if it is no use."""

    @abstractmethod
    def require_idle(self) -> None:
        """Raise `Refused` if another process has the database open."""

    @abstractmethod
    def place(self, copy: Path, prepare: Prepare) -> str | None:
        """Put a copy in the database's place; where that is now, if it was not empty.

        Whatever is raised, the database is as it was.
        """

    def is_empty(self) -> bool:
        """Whether nobody has put anything into it yet."""
        with self._engine.connect() as connection:
            tables = inspect(connection).get_table_names()
            if "users" not in tables:
                return not tables
            return not connection.scalar(select(func.count()).select_from(User))


def assets_in(connection: Connection) -> dict[str, int]:
    """The size of each asset that a registry's database knows."""
    return {
        sha256: size for sha256, size in connection.execute(select(Asset.sha256, Asset.size_bytes))
    }
