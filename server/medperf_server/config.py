"""Where the registry's settings come from: environment variables and defaults."""

import os
from pathlib import Path
from typing import Any

MAX_BODY_BYTES = 2 * 1024 * 1024
IDEMPOTENCY_DAYS = 30
DEFAULT_PAGE_SIZE = 32
MAX_PAGE_SIZE = 1000


def database_url() -> str:
    """The SQLAlchemy URL from `MEDPERF_DATABASE_URL`, else SQLite in `./instance/`."""
    url = os.environ.get("MEDPERF_DATABASE_URL")
    if not url:
        folder = Path.cwd() / "instance"
        folder.mkdir(mode=0o700, exist_ok=True)
        return f"sqlite:///{folder / 'registry.db'}"
    # The psycopg 3 driver is the one we install; a bare postgresql:// would ask for psycopg2.
    for bare in ("postgres://", "postgresql://"):
        if url.startswith(bare):
            return "postgresql+psycopg://" + url.removeprefix(bare)
    return url


def settings(url: str) -> dict[str, Any]:
    """Flask configuration of the registry on the database with this SQLAlchemy URL."""
    # A server process outlives a restart of the database server.
    pooling = {} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return {
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": pooling,
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES,
        "API_TITLE": "MedPerf registry",
        "API_VERSION": "v0",
        "OPENAPI_VERSION": "3.0.3",
        "OPENAPI_URL_PREFIX": "/api/v0",
        "OPENAPI_JSON_PATH": "openapi.json",
        "API_SPEC_OPTIONS": {
            "security": [{"token": []}],
            "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        },
        "PROPAGATE_EXCEPTIONS": False,
    }
