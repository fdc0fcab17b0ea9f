"""What a gadget may be."""

from medperf_server.policy import Values, unique_name
from tests.server.made_up.gadget import GADGET
from tests.server.made_up.gadget.table import Gadget


def check_gadget(values: Values, entity: Gadget | None = None) -> None:
    """Rules for a new gadget, or for changes (`values`) to `entity`."""
    unique_name(GADGET, values, entity.id if entity else None)
