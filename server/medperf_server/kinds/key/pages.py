"""Public keys: a table of them, to compare fingerprints with."""

from typing import Any

from flask import render_template

from medperf_server.kinds.key import KEY
from medperf_server.kinds.key.table import Key
from medperf_server.web.blueprint import blueprint
from medperf_server.web.tables import entities


@blueprint.get("/keys/")
def keys() -> Any:
    """The public keys of all members."""
    sorts = {"revoked": Key.revoked_at}
    page = entities(KEY, sorts, (Key.name, Key.keyid), ("owner", "keyid"))
    return render_template("keys.html", page=page)
