"""Containers; on the wire they keep MedPerf's older word, mlcubes."""

from typing import Any

from flask import g
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
    update,
)
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.container.rules import check_container
from medperf_server.kinds.container.schemas import ContainerSchema
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.user.resource import me
from medperf_server.schemas import EntityQuery

blueprint = Blueprint("containers", __name__, description="Containers")
blueprints = (blueprint,)


@blueprint.route("/mlcubes/")
class ContainersView(MethodView):
    """All containers."""

    @blueprint.arguments(EntityQuery, location="query")
    @blueprint.response(200, page_of(ContainerSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All containers."""
        return listed(CONTAINER, query)

    @blueprint.arguments(ContainerSchema)
    @blueprint.response(201, ContainerSchema)
    def post(self, values: dict[str, Any]) -> Container:
        """Create a container that the caller owns."""
        check_container(values)
        return add(Container(**values, owner=g.caller.id))


@blueprint.route(f"/mlcubes/<{UID}:uid>/")
class ContainerView(MethodView):
    """One container."""

    @blueprint.response(200, ContainerSchema)
    def get(self, uid: int) -> Container:
        """One container."""
        return find(CONTAINER, uid)

    @of_owner(CONTAINER)
    @blueprint.arguments(ContainerSchema(partial=True))
    @blueprint.response(200, ContainerSchema)
    def put(self, values: dict[str, Any], uid: int) -> Container:
        """Change a container; its owner or an admin."""
        container = find(CONTAINER, uid, lock=True)
        check_container(values, container)
        update(container, values)
        return container

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a container that no benchmark uses; admins only."""
        remove_entity(CONTAINER, uid)


@me.route("/me/mlcubes/")
@me.arguments(EntityQuery, location="query")
@me.response(200, page_of(ContainerSchema))
def my_containers(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's containers."""
    return listed(CONTAINER, {**query, "owner": g.caller.id})
