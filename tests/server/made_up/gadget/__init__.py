"""Gadgets; those that are private are shown to guests, and how full their battery is to nobody."""

from medperf_server.kinds.kind import Circle, Kind
from tests.server.made_up.gadget.schemas import GadgetSchema, PublicGadgetSchema
from tests.server.made_up.gadget.table import Gadget, GadgetGuest

GADGET = Kind(
    "gadget",
    "gadget",
    Gadget,
    GadgetSchema(),
    sight=Circle(
        private=Gadget.is_private,
        owner=Gadget.owner,
        thing=GadgetGuest.gadget,
        member=GadgetGuest.user_id,
    ),
    public=PublicGadgetSchema(),
    quiet=(Gadget.battery,),
    files=(Gadget.manual_hash,),
)
