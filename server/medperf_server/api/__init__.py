"""The REST resources, one module each."""

from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin, resolver
from flask import Flask
from flask_smorest import Api
from marshmallow import Schema

from medperf_server import errors
from medperf_server.api import associations, benchmarks, containers, later, me, service, users
from medperf_server.schemas import ErrorSchema


class RegistryApi(Api):
    """flask-smorest's Api, its errors in MedPerf's form."""

    ERROR_SCHEMA = ErrorSchema

    def handle_http_exception(self, error: Any) -> Any:
        """Answer `error` the way the contract says."""
        return errors.handle_http_exception(error)


def _schema_name(schema: Any) -> str:
    """The name of a schema in the OpenAPI document; partial ones differ in what they require."""
    partial = isinstance(schema, Schema) and schema.partial
    return resolver(schema) + ("Update" if partial else "")


def init_app(app: Flask) -> None:
    """Register every resource under /api/v0."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    registry = RegistryApi(app, spec_kwargs={"marshmallow_plugin": plugin})
    # The literal /mlcubes/benchmarks/ and /mlcubes/<id>/ cannot clash: IDs are integers.
    for module in (service, users, me, containers, benchmarks, associations, later):
        registry.register_blueprint(module.blueprint, url_prefix="/api/v0")
