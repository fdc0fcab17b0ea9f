"""The OpenAPI document: besides what the resources say of themselves, what each may refuse."""

from collections.abc import Callable
from http import HTTPStatus
from threading import Lock
from typing import Any

from apispec import BasePlugin
from apispec.ext.marshmallow import MarshmallowPlugin, resolver
from flask import Flask
from flask_smorest import Api
from marshmallow import Schema

from medperf_server import errors
from medperf_server.auth import READING
from medperf_server.idempotency import KEY, takes_key
from medperf_server.schemas import ErrorSchema

# Messages by field; what is inside a field has messages of its own.
FIELD_ERRORS = {
    "type": "object",
    "description": "Why a request was refused: messages by field, or as `non_field_errors`",
    "minProperties": 1,
    "additionalProperties": {
        "oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]
    },
}
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "A UUID. A request is done once for its key, and answered alike each time.",
    "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
}
# By method; what needs no token refuses only floods.
OPEN_REFUSALS = (429,)
READING_REFUSALS = (401, 403, 429, 503)
WRITING_REFUSALS = (400, *READING_REFUSALS)


class Refusals(BasePlugin):
    """Adds to every operation what any request of its kind may be refused with."""

    def operation_helper(
        self, path: str | None = None, operations: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Extend the path's operations."""
        for method, operation in (operations or {}).items():
            for status in self._refusals(method.upper(), path or "", operation):
                operation["responses"].setdefault(status, HTTPStatus(status).name)
            if takes_key(method.upper(), path or ""):
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)

    @staticmethod
    def _refusals(method: str, path: str, operation: dict[str, Any]) -> tuple[int, ...]:
        if operation.get("security") == []:
            return OPEN_REFUSALS
        found: tuple[int, ...] = WRITING_REFUSALS if method not in READING else READING_REFUSALS
        found += (404,) if "{" in path else ()
        found += (413,) if method in ("POST", "PUT") else ()
        return found + ((422,) if takes_key(method, path) else ())


class RegistryApi(Api):
    """flask-smorest's Api, its errors in MedPerf's form; it is described when somebody asks.

    What describes it takes longer than all else that an application begins with, and commands, and
    most processes that serve, are never asked.
    """

    ERROR_SCHEMA = ErrorSchema
    # Each status is described on its own, and none goes without saying.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        names = MarshmallowPlugin(schema_name_resolver=_schema_name)
        plugins = {"marshmallow_plugin": names, "extra_plugins": [Refusals()]}
        self.undescribed: list[Callable[[], None]] = []
        self._describing = Lock()
        super().__init__(app, spec_kwargs=plugins)

    def _openapi_json(self) -> Any:
        with self._describing:
            for describe in self.undescribed:
                describe()
            self.undescribed.clear()
        return super()._openapi_json()

    def _register_responses(self) -> None:
        super()._register_responses()
        self.spec.components.schema("FieldErrors", FIELD_ERRORS)
        invalid = self.spec.components.responses_lazy[HTTPStatus.BAD_REQUEST.name]
        invalid["content"]["application/json"]["schema"] = self.spec.components.get_ref(
            "schema", "FieldErrors"
        )

    def handle_http_exception(self, error: Any) -> Any:
        """Answer `error` the way the contract says."""
        return errors.handle_http_exception(error)


def _schema_name(schema: Any) -> str:
    """The name of a schema in the OpenAPI document; partial ones differ in what they require."""
    partial = isinstance(schema, Schema) and schema.partial
    return resolver(schema) + ("Update" if partial else "")
