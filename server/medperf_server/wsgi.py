"""WSGI entry for gunicorn: `gunicorn medperf_server.wsgi:app`."""

from medperf_server.app import create_app
from medperf_server.database import require_migrated

app = create_app()
require_migrated(app)
