"""One module a group of pages; importing them registers their routes."""

from medperf_server.web.pages import (
    admin,
    associations,
    entities,
    entrance,
    home,
    leaderboard,
    tokens,
)

__all__ = ["admin", "associations", "entities", "entrance", "home", "leaderboard", "tokens"]
