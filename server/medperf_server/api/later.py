"""Empty lists of what MedPerf clients ask for and this registry does not keep yet."""

from typing import Any

from marshmallow import Schema

from medperf_server.api.common import Blueprint, page_of
from medperf_server.schemas import PageQuery

blueprint = Blueprint("later", __name__, description="Not kept yet")


@blueprint.route("/datasets/")
@blueprint.route("/results/")
@blueprint.route("/me/datasets/")
@blueprint.route("/me/results/")
@blueprint.route("/me/datasets/associations/")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(Schema))
def nothing(query: dict[str, Any]) -> dict[str, Any]:
    """An empty list: datasets, results and their associations come with a later version."""
    return {"count": 0, "next": None, "previous": None, "results": []}
