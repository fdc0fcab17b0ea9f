"""`medperf-server` with these kinds in the list, and their tables in its database."""

from medperf_server.app import create_app
from medperf_server.base import db
from medperf_server.cli import main
from medperf_server.kinds import KINDS
from tests.server.made_up.fitting import FITTING
from tests.server.made_up.gadget import GADGET
from tests.server.made_up.reading import READING

KINDS += [GADGET, FITTING, READING]
with create_app().app_context():
    db.create_all()
main()
