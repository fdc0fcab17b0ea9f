"""Readings: all that the caller may see, and a new one."""

from typing import Any

from flask.views import MethodView

from medperf_server.api.common import Blueprint, add, listed, page_of
from medperf_server.schemas import PageQuery
from tests.server.made_up.reading import READING
from tests.server.made_up.reading.schemas import ReadingSchema
from tests.server.made_up.reading.table import Reading

blueprint = Blueprint("readings", __name__, description="Readings")
blueprints = (blueprint,)


@blueprint.route("/readings/")
class ReadingsView(MethodView):
    """All readings."""

    @blueprint.arguments(PageQuery, location="query")
    @blueprint.response(200, page_of(ReadingSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Those that the caller may see."""
        return listed(READING, query)

    @blueprint.arguments(ReadingSchema)
    @blueprint.response(201, ReadingSchema)
    def post(self, values: dict[str, Any]) -> Reading:
        """A new one."""
        return add(Reading(**values))
