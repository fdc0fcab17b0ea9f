"""Pages for people: rendered here, without a build step; scripts only copy to the clipboard."""

from flask import Flask

from medperf_server.kinds import KINDS
from medperf_server.web import failures, notices, pages, session
from medperf_server.web.blueprint import blueprint
from medperf_server.web.words import FILTERS, GLOBALS, showable, signed_in

__all__ = ["init_app", "pages", "session"]

blueprint.before_request(session.guard)
blueprint.after_request(notices.carry)


def init_app(app: Flask) -> None:
    """Register the pages, those of the kinds too."""
    for kind in KINDS:
        kind.part("pages")
    app.after_request(failures.as_page)
    app.context_processor(signed_in)
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.globals.update(GLOBALS)
    app.jinja_env.finalize = showable
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.register_blueprint(blueprint)
