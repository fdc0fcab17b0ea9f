"""The REST resources, one module each."""

from flask import Flask

from medperf_server.api import (
    assets,
    associations,
    audit,
    benchmarks,
    containers,
    later,
    me,
    members,
    service,
    uploads,
    users,
)
from medperf_server.api.openapi import RegistryApi


def init_app(app: Flask) -> None:
    """Register every resource under /api/v0."""
    registry = RegistryApi(app)
    # The literal /mlcubes/benchmarks/ and /mlcubes/<id>/ cannot clash: IDs are integers.
    for module in (
        service,
        users,
        me,
        containers,
        benchmarks,
        members,
        associations,
        later,
        assets,
        uploads,
        audit,
    ):
        registry.register_blueprint(module.blueprint, url_prefix="/api/v0")
