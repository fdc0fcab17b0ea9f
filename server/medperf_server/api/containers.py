"""Containers; on the wire they keep MedPerf's older word, mlcubes."""

from typing import Any

from flask import g
from flask.views import MethodView

from medperf_server.api.common import (
    UID,
    Blueprint,
    find,
    listed,
    of_admins,
    of_owner,
    page_of,
    remove,
    update,
)
from medperf_server.models import Association, Container, db
from medperf_server.policy import check_container
from medperf_server.schemas import ContainerQuery, ContainerSchema

blueprint = Blueprint("containers", __name__, description="Containers")


@blueprint.route("/mlcubes/")
class ContainersView(MethodView):
    """All containers."""

    @blueprint.arguments(ContainerQuery, location="query")
    @blueprint.response(200, page_of(ContainerSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All containers."""
        return listed(Container, query)

    @blueprint.arguments(ContainerSchema)
    @blueprint.response(201, ContainerSchema)
    def post(self, values: dict[str, Any]) -> Container:
        """Create a container that the caller owns."""
        check_container(values)
        container = Container(**values, owner=g.caller.id)
        db.session.add(container)
        db.session.flush()
        return container


@blueprint.route(f"/mlcubes/<{UID}:uid>/")
class ContainerView(MethodView):
    """One container."""

    @blueprint.response(200, ContainerSchema)
    def get(self, uid: int) -> Container:
        """One container."""
        return find(Container, uid)

    @of_owner(Container)
    @blueprint.arguments(ContainerSchema(partial=True))
    @blueprint.response(200, ContainerSchema)
    def put(self, values: dict[str, Any], uid: int) -> Container:
        """Change a container; its owner or an admin."""
        container = find(Container, uid, lock=True)
        check_container(values, container)
        update(container, values)
        return container

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a container that no benchmark uses; admins only."""
        container = find(Container, uid)
        remove(Association, Association.model_mlcube == uid)
        db.session.delete(container)
