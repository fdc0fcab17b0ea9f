"""Where the registry's settings come from: environment variables and defaults."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_BODY_BYTES = 2 * 1024 * 1024
IDEMPOTENCY_DAYS = 30
DEFAULT_PAGE_SIZE = 32
MAX_PAGE_SIZE = 1000
# Of an entity's `metadata`, or `user_metadata`, as compact JSON; and of all that members wrote in
# the rows of one answer.
MAX_JSON_BYTES = 256 << 10
MAX_PAGE_BYTES = 4 << 20
# Whether names, descriptions and addresses are kept to what MedPerf's clients can read.
LIMITS = FOR_MEDPERF, WIDE = "medperf", "wide"
# The largest number of an integer column, on any engine.
MAX_UID = 2**31 - 1
# Until a database server that says nothing counts as away.
DATABASE_SECONDS = 10
ASSET_QUOTA_BYTES = 10 << 30
# That `medperf-server run` keeps open at once.
CONNECTIONS = 1000
# Of a worker process, unless a Redis counts for all of them. A site that syncs all day asks less
# than once a second.
RATE_LIMIT = "6000/minute"
FAILED_SIGN_INS = "30/5 minutes"


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


def assets_place(url: str) -> str:
    """A folder or `s3://bucket/prefix` for members' files, from `MEDPERF_ASSETS`.

    Else the folder `assets` beside the database's file, or in `./instance/`.
    """
    return os.environ.get("MEDPERF_ASSETS") or local_assets(url)


def local_assets(url: str) -> str:
    """The folder for members' files where no setting names another."""
    # A path that is not absolute is not meant from here: Flask-SQLAlchemy has a folder for it.
    is_file = url.startswith("sqlite:////")
    folder = Path(url.removeprefix("sqlite:///")).parent if is_file else Path.cwd() / "instance"
    return str(folder / "assets")


def staging_place(url: str, assets: str) -> str:
    """A folder for requests that are too large for memory while they come, from `MEDPERF_STAGING`.

    Else beside the members' files or, where those are in a bucket, beside the database's.
    """
    beside = local_assets(url) if assets.startswith("s3://") else assets
    return os.environ.get("MEDPERF_STAGING") or str(Path(beside) / "staging")


def public_url(text: str, named: str = "MEDPERF_URL") -> str:
    """The address at which members find the registry, that links begin with: no slash at its end.

    Raises ValueError, with what it is `named` by who set it, for what is none.
    """
    try:
        # It drops line breaks.
        found = urlsplit(text)
        is_one = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        is_one = False
    more = is_one and (found.username is not None or found.query or found.fragment)
    if not is_one or more or not re.fullmatch("[!-~]+", text) or text.endswith(("?", "#")):
        example = "https://registry.example.org: no user, no query, and no space"
        raise ValueError(f"{named} is no address at which members find the registry, as {example}")
    return text.rstrip("/")


def _number(variable: str, default: int = 0) -> int:
    """A number from the environment; raises ValueError for what is none, or below 0."""
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ValueError(f"{variable}={text!r} is not a number")
    return int(text)


def _limits() -> str:
    """One of LIMITS from the environment; raises ValueError for what is none."""
    text = os.environ.get("MEDPERF_LIMITS", FOR_MEDPERF)
    if text not in LIMITS:
        raise ValueError(f"MEDPERF_LIMITS={text!r} is neither {' nor '.join(LIMITS)}")
    return text


def settings(url: str) -> dict[str, Any]:
    """Flask configuration of the registry on the database with this SQLAlchemy URL."""
    engine: dict[str, Any] = {}
    if not url.startswith("sqlite"):
        # A server process outlives a restart of the database server.
        connecting = {"client_encoding": "utf8", "connect_timeout": DATABASE_SECONDS}
        engine = {"pool_pre_ping": True, "connect_args": connecting}
    return {
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine,
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES,
        "RATE_LIMIT": os.environ.get("MEDPERF_RATE_LIMIT", RATE_LIMIT),
        "FAILED_SIGN_INS": os.environ.get("MEDPERF_FAILED_SIGN_INS", FAILED_SIGN_INS),
        "RATE_LIMIT_STORAGE": os.environ.get("MEDPERF_RATE_LIMIT_STORAGE", "memory://"),
        "TRUSTED_PROXIES": _number("MEDPERF_TRUSTED_PROXIES"),
        "ASSETS": assets_place(url),
        "STAGING": staging_place(url, assets_place(url)),
        "S3_ENDPOINT": os.environ.get("MEDPERF_S3_ENDPOINT"),
        "ASSET_QUOTA_BYTES": _number("MEDPERF_ASSET_QUOTA_BYTES", ASSET_QUOTA_BYTES),
        "LIMITS": _limits(),
        "CONNECTIONS": _number("MEDPERF_CONNECTIONS", CONNECTIONS),
        # Whether mail is set up rightly is seen by who sends it: nothing else shall fail by that.
        "SMTP_URL": os.environ.get("MEDPERF_SMTP_URL", ""),
        "MAIL_FROM": os.environ.get("MEDPERF_MAIL_FROM", ""),
        "URL": os.environ.get("MEDPERF_URL", "http://127.0.0.1:8000"),
        "METRICS_TOKEN": os.environ.get("MEDPERF_METRICS_TOKEN", ""),
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
