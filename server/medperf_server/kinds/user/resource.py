"""Members of the consortium."""

from typing import Any

from flask import g
from flask.views import MethodView

from medperf_server.api.common import UID, Blueprint, find, listed, of_admins, page_of, update
from medperf_server.assets import unavailable
from medperf_server.assets.holdings import remove_member
from medperf_server.base import db
from medperf_server.kinds.user import USER
from medperf_server.kinds.user.rules import (
    check_user,
    check_user_removal,
    require_acquaintance,
)
from medperf_server.kinds.user.schemas import UserSchema
from medperf_server.kinds.user.table import User
from medperf_server.schemas import PageQuery

blueprint = Blueprint("users", __name__, description="Members")
blueprint.register_error_handler(OSError, unavailable)
# What is the caller's of a kind, the kind adds.
me = Blueprint("me", __name__, description="The caller")
blueprints = (blueprint, me)


@blueprint.route("/users/")
@of_admins
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(UserSchema))
def users(query: dict[str, Any]) -> dict[str, Any]:
    """All members, for admins."""
    return listed(USER, query)


@blueprint.route(f"/users/<{UID}:uid>/")
class UserView(MethodView):
    """One member."""

    @blueprint.response(200, UserSchema)
    def get(self, uid: int) -> User:
        """A member, for themselves, for whose container prepares their data, and admins."""
        require_acquaintance(g.caller, uid)
        return db.get_or_404(User, uid, description="Not found.")

    @of_admins
    @blueprint.arguments(UserSchema(partial=True))
    @blueprint.response(200, UserSchema)
    def put(self, values: dict[str, Any], uid: int) -> User:
        """Change a member's names or address; admins only."""
        user = find(USER, uid, lock=True)
        check_user(values, user)
        update(user, values)
        return user

    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a member who owns nothing; admins only, and not themselves.

        Files that they alone hold go with them, unless a container or a benchmark needs one.
        """
        check_user_removal(g.caller, uid)
        remove_member(find(USER, uid, lock=True))


@me.route("/me/")
@me.response(200, UserSchema)
def caller() -> User:
    """The caller."""
    return find(USER, g.caller.id)
