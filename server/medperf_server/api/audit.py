"""The audit log, for admins."""

from typing import Any

from sqlalchemy import select

from medperf_server.answers import not_kept
from medperf_server.api.common import Blueprint, of_admins, page, page_of
from medperf_server.models import AuditEntry
from medperf_server.schemas import AuditQuery, AuditSchema

blueprint = Blueprint("audit", __name__, description="The audit log")


@blueprint.route("/audit/")
@of_admins
@blueprint.arguments(AuditQuery, location="query")
@blueprint.response(200, page_of(AuditSchema))
def entries(query: dict[str, Any]) -> dict[str, Any]:
    """Every change that was made, newest first; admins only."""
    not_kept()
    filters = {k: v for k, v in query.items() if k not in ("limit", "offset")}
    return page(select(AuditEntry).filter_by(**filters), AuditEntry.id.desc(), query)
