"""One module a group of pages that no kind has; importing them registers their routes."""

from medperf_server.web.pages import admin, entrance, home, notices, tokens

__all__ = ["admin", "entrance", "home", "notices", "tokens"]
