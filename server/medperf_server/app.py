"""The application factory: everything a request passes through, in order."""

from flask import Flask

from medperf_server import (
    answers,
    api,
    assets,
    audit,
    auth,
    changes,
    database,
    errors,
    health,
    idempotency,
    limits,
    logs,
    metrics,
    security,
    web,
)
from medperf_server.config import database_url, settings
from medperf_server.notices import feed, recording


def create_app(url: str | None = None) -> Flask:
    """The registry as a WSGI application, on the database of a SQLAlchemy URL.

    Without a URL: the one that the environment names, see `config.database_url`.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(settings(url or database_url()))
    app.url_map.strict_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    database.init_app(app)
    changes.init_app()
    audit.init_app()
    recording.init_app()
    assets.init_app(app)
    errors.init_app(app)
    security.init_app(app)
    # Each of these acts before the view in this order, and after it in the opposite one: the
    # answer is committed, then tagged, then logged.
    logs.init_app(app)
    metrics.init_app(app)
    health.init_app(app)
    auth.init_app(app)
    web.session.init_app(app)
    limits.init_app(app)
    answers.init_app(app)
    idempotency.init_app(app)
    api.init_app(app)
    feed.init_app(app)
    web.init_app(app)
    return app
