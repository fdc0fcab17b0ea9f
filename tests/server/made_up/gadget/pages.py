"""A page of gadgets."""

from typing import Any

from flask import render_template_string

from medperf_server.web.blueprint import blueprint
from medperf_server.web.tables import entities
from tests.server.made_up.gadget import GADGET
from tests.server.made_up.gadget.table import Gadget


@blueprint.get("/gadgets/")
def gadgets() -> Any:
    """The gadgets the member may see."""
    page = entities(GADGET, {}, (Gadget.name,), ("owner",))
    return render_template_string(
        "{% for one in page.rows %}{{ one.name }};{% endfor %}", page=page
    )
