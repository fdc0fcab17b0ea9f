"""Gadgets: all of them, one, the caller's, and guests."""

from typing import Any

from flask import Response, g, jsonify
from flask.views import MethodView

from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    find,
    listed,
    of_admins,
    of_owner,
    page_of,
    remove_entity,
    told,
    update,
)
from medperf_server.kinds.user.resource import me
from medperf_server.schemas import PageQuery
from tests.server.made_up.gadget import GADGET
from tests.server.made_up.gadget.rules import check_gadget
from tests.server.made_up.gadget.schemas import GadgetSchema, GuestSchema, PublicGadgetSchema
from tests.server.made_up.gadget.table import Gadget, GadgetGuest

blueprint = Blueprint("gadgets", __name__, description="Gadgets")
blueprints = (blueprint,)


@blueprint.route("/gadgets/")
class GadgetsView(MethodView):
    """All gadgets."""

    @blueprint.arguments(PageQuery, location="query")
    @blueprint.response(200, page_of(PublicGadgetSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All gadgets."""
        return listed(GADGET, query)

    @blueprint.arguments(GadgetSchema)
    @blueprint.response(201, GadgetSchema)
    def post(self, values: dict[str, Any]) -> Gadget:
        """Create a gadget that the caller owns."""
        check_gadget(values)
        return add(Gadget(**values, owner=g.caller.id))


@blueprint.route(f"/gadgets/<{UID}:uid>/")
class GadgetView(MethodView):
    """One gadget."""

    @blueprint.response(200, GadgetSchema)
    def get(self, uid: int) -> Response:
        """One gadget."""
        return jsonify(told(GADGET, find(GADGET, uid)))

    @of_owner(GADGET)
    @blueprint.arguments(GadgetSchema(partial=True))
    @blueprint.response(200, GadgetSchema)
    def put(self, values: dict[str, Any], uid: int) -> Gadget:
        """Change a gadget; its owner or an admin."""
        gadget = find(GADGET, uid, lock=True)
        check_gadget(values, gadget)
        update(gadget, values)
        return gadget

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a gadget; admins only."""
        remove_entity(GADGET, uid)


@blueprint.route(f"/gadgets/<{UID}:uid>/guests/", methods=["POST"])
@of_owner(GADGET)
@blueprint.arguments(GuestSchema)
@blueprint.response(201, GuestSchema)
def invite(values: dict[str, Any], uid: int) -> GadgetGuest:
    """Show a private gadget to a member."""
    return add(GadgetGuest(gadget=uid, **values))


@me.route("/me/gadgets/")
@me.arguments(PageQuery, location="query")
@me.response(200, page_of(GadgetSchema))
def my_gadgets(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's gadgets."""
    return listed(GADGET, {**query, "owner": g.caller.id})
