"""How Alembic meets the registry's models; Flask-Migrate runs this inside an app context."""

from alembic import context
from flask import current_app

from medperf_server.base import UtcDateTime


def render_item(kind, item, _):
    """Write our datetime type as the plain one, so that revisions import nothing of ours."""
    return (
        "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False
    )


def run_migrations():
    extension = current_app.extensions["migrate"]
    with extension.db.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            # A batch migration drops and renames tables: with foreign keys on, the drop would
            # cascade. The pragma does nothing inside a transaction, hence the raw connection.
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")
        context.configure(
            connection=connection,
            target_metadata=extension.db.metadata,
            render_item=render_item,
            transactional_ddl=True,
            **extension.configure_args,
        )
        with context.begin_transaction():
            context.run_migrations()
            if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise RuntimeError("The migration would break foreign keys; nothing was changed")
        if sqlite:
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=ON")


run_migrations()
