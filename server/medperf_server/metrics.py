"""Figures for Prometheus at `/metrics`: what was asked and how long it took, what there is.

With several worker processes each counts for itself, in files below the folder that
`PROMETHEUS_MULTIPROC_DIR` names, and whichever is asked adds them up (`deploy/gunicorn.conf.py`
sets this up).
"""

import hmac
import os
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from flask import Flask, Response, abort, current_app, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import event, func, select
from sqlalchemy.exc import SQLAlchemyError

from medperf_server.base import PENDING, Base, db
from medperf_server.kinds import KINDS
from medperf_server.limits import count_failure
from medperf_server.models import Asset, Upload

# Anyone may invent a method, and each would be a figure of its own.
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
SEVERAL_PROCESSES = "PROMETHEUS_MULTIPROC_DIR"

# Methods that somebody invents are not worth remembering.
MOST_LOOKED_UP = 2048

# What there is besides the kinds.
OWN_TABLES: dict[str, type[Base]] = {"asset": Asset, "upload": Upload}


class Database(Collector):
    """What the database holds, counted when somebody asks."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures; only that there are none while the database does not answer."""
        try:
            tables = {kind.title: kind.table for kind in KINDS} | OWN_TABLES
            counts = {name: _count(table) for name, table in tables.items()}
            pending = {
                kind.title: _count(kind.table, approval_status=PENDING)
                for kind in KINDS
                if kind.is_decided
            }
            stored = db.session.scalar(select(func.sum(Asset.size_bytes))) or 0
        except SQLAlchemyError:
            db.session.rollback()
            yield GaugeMetricFamily("medperf_database_up", "Whether the database answers", 0)
            return
        yield GaugeMetricFamily("medperf_database_up", "Whether the database answers", 1)
        yield _by_type("medperf_entities", "How many there are", counts)
        yield _by_type("medperf_pending", "How many wait for a decision", pending)
        yield GaugeMetricFamily("medperf_stored_bytes", "Bytes of members' files", int(stored))


def _count(table: type[Base], **values: str) -> int:
    return db.session.scalar(select(func.count()).select_from(table).filter_by(**values)) or 0


def _by_type(name: str, documentation: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=["type"])
    for kind, count in counts.items():
        family.add_metric([kind], count)
    return family


def init_app(app: Flask) -> None:
    """Count every request, and tell at `/metrics`."""
    disable_created_metrics()
    registry = CollectorRegistry()
    seconds = Histogram(
        "medperf_request_seconds",
        "Requests answered, and how long that took",
        ["method", "route", "status"],
        buckets=BUCKETS,
        registry=registry,
    )
    uploaded = Counter("medperf_uploaded_bytes", "Bytes of files that came in", registry=registry)
    _watch_connections(app, registry)
    # Looking a figure up by its labels takes longer than counting.
    counts: dict[tuple[str, str, int], Callable[[float], None]] = {}

    @app.after_request
    def count(response: Response) -> Response:
        rule = request.url_rule
        key = (request.method, rule.rule if rule else "none", response.status_code)
        observe = counts.get(key)
        if observe is None:
            method, route, status = key
            known = method if method in METHODS else "other"
            observe = seconds.labels(known, route, status).observe
            if len(counts) < MOST_LOOKED_UP:
                counts[key] = observe
        observe(time.perf_counter() - g.started)
        if key[2] == 204 and "Upload-Offset" in response.headers:
            start = int(request.headers.get("Upload-Offset", 0))
            uploaded.inc(int(response.headers["Upload-Offset"]) - start)
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        """The figures, for whoever may see them."""
        _require_reader()
        shown = registry
        if SEVERAL_PROCESSES in os.environ:
            shown = CollectorRegistry()
            MultiProcessCollector(shown)
        body = generate_latest(shown)
        database = CollectorRegistry()
        database.register(Database())
        return Response(body + generate_latest(database), content_type=CONTENT_TYPE_LATEST)


def _watch_connections(app: Flask, registry: CollectorRegistry) -> None:
    opened = Gauge(
        "medperf_database_connections",
        "Connections to the database that are open, in use or not",
        registry=registry,
        multiprocess_mode="livesum",
    )
    with app.app_context():
        pool = db.engine.pool
    event.listen(pool, "connect", lambda *_: opened.inc())
    event.listen(pool, "close", lambda *_: opened.dec())


def _require_reader() -> None:
    """Who has the token; where there is none, this machine, if no proxy asks for somebody else."""
    token: str = current_app.config["METRICS_TOKEN"]
    if token:
        if not hmac.compare_digest(
            request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()
        ):
            count_failure()
            abort(401, "Authorization: Bearer <MEDPERF_METRICS_TOKEN> is needed")
        return
    forwarded = "X-Forwarded-For" in request.headers or "Forwarded" in request.headers
    if forwarded or not _is_loopback(request.remote_addr or ""):
        abort(403, "Only this machine may read this, for no MEDPERF_METRICS_TOKEN is set")


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
