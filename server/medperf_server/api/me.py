"""The caller and what is theirs."""

from typing import Any

from flask import g
from sqlalchemy import select

from medperf_server.api.common import Blueprint, find, listed, page, page_of
from medperf_server.models import Association, Benchmark, Container, User
from medperf_server.policy import own_associations
from medperf_server.schemas import (
    AssociationSchema,
    BenchmarkQuery,
    BenchmarkSchema,
    ContainerQuery,
    ContainerSchema,
    PageQuery,
    UserSchema,
)

blueprint = Blueprint("me", __name__, description="The caller")


@blueprint.route("/me/")
@blueprint.response(200, UserSchema)
def me() -> User:
    """The caller."""
    return find(User, g.caller.id)


@blueprint.route("/me/benchmarks/")
@blueprint.arguments(BenchmarkQuery, location="query")
@blueprint.response(200, page_of(BenchmarkSchema))
def my_benchmarks(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's benchmarks."""
    return listed(Benchmark, {**query, "owner": g.caller.id})


@blueprint.route("/me/mlcubes/")
@blueprint.arguments(ContainerQuery, location="query")
@blueprint.response(200, page_of(ContainerSchema))
def my_containers(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's containers."""
    return listed(Container, {**query, "owner": g.caller.id})


@blueprint.route("/me/mlcubes/associations/")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(AssociationSchema))
def my_associations(query: dict[str, Any]) -> dict[str, Any]:
    """Associations of the caller's models and benchmarks."""
    return page(select(Association).where(own_associations(g.caller)), Association.id, query)
