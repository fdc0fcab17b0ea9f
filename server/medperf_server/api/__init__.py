"""The REST resources that no kind has: one module each; those of a kind are in its folder."""

from flask import Flask

from medperf_server.api import assets, audit, notices, service, uploads
from medperf_server.api.openapi import RegistryApi
from medperf_server.kinds import KINDS


def init_app(app: Flask) -> None:
    """Register every resource under /api/v0."""
    registry = RegistryApi(app)
    # All before the first is registered: a kind may add to the blueprint of another.
    resources = [kind.part("resource") for kind in KINDS]
    blueprints = [blueprint for module in resources if module for blueprint in module.blueprints]
    others = [module.blueprint for module in (assets, uploads, audit, notices)]
    for blueprint in (service.blueprint, *blueprints, *others):
        registry.register_blueprint(blueprint, url_prefix="/api/v0")
    service.init_app(app)
