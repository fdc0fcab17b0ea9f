"""Public keys: everybody's to see, and to verify with."""

from typing import Any

from flask import g
from flask.views import MethodView

from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    find,
    listed,
    of_owner,
    page_of,
    update,
)
from medperf_server.kinds.key import KEY
from medperf_server.kinds.key.rules import check_change, check_key
from medperf_server.kinds.key.schemas import KeySchema, KeyUpdateSchema
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.user.resource import me
from medperf_server.schemas import PageQuery

blueprint = Blueprint("keys", __name__, description="Public keys")
blueprints = (blueprint,)


@blueprint.route("/keys/")
class KeysView(MethodView):
    """All keys."""

    @blueprint.arguments(PageQuery, location="query")
    @blueprint.response(200, page_of(KeySchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """The public keys of all members."""
        return listed(KEY, query)

    @blueprint.arguments(KeySchema)
    @blueprint.response(201, KeySchema)
    def post(self, values: dict[str, Any]) -> Key:
        """Register a public key (Ed25519, PEM) as the caller's."""
        check_key(values)
        return add(Key(**values, owner=g.caller.id))


@blueprint.route(f"/keys/<{UID}:uid>/")
class KeyView(MethodView):
    """One key."""

    @blueprint.response(200, KeySchema)
    def get(self, uid: int) -> Key:
        """One public key."""
        return find(KEY, uid)

    @of_owner(KEY)
    @blueprint.arguments(KeyUpdateSchema(partial=True))
    @blueprint.response(200, KeySchema)
    def put(self, values: dict[str, Any], uid: int) -> Key:
        """Name a key, or revoke it with `{"is_revoked": true}`; its owner or an admin.

        It stays, for what it signed. Revoked, it is good for nothing new.
        """
        key = find(KEY, uid, lock=True)
        check_change(values, key)
        update(key, values)
        return key


@me.route("/me/keys/")
@me.arguments(PageQuery, location="query")
@me.response(200, page_of(KeySchema))
def my_keys(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's keys."""
    return listed(KEY, {**query, "owner": g.caller.id})
