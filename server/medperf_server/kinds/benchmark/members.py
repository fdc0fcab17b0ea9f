"""To whom a benchmark is shown while it is private."""

from typing import Any

from flask import abort, g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import UID, Blueprint, add, find, of_owner, page, page_of
from medperf_server.base import db
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.rules import invited_user
from medperf_server.kinds.benchmark.schemas import InviteSchema, MemberSchema
from medperf_server.kinds.benchmark.table import BenchmarkMember
from medperf_server.policy import require_owner
from medperf_server.schemas import PageQuery

blueprint = Blueprint("members", __name__, description="Members of private benchmarks")


@blueprint.route(f"/benchmarks/<{UID}:uid>/members/")
class MembersView(MethodView):
    """The members of a benchmark."""

    @of_owner(BENCHMARK)
    @blueprint.arguments(PageQuery, location="query")
    @blueprint.response(200, page_of(MemberSchema))
    def get(self, query: dict[str, Any], uid: int) -> dict[str, Any]:
        """Who is invited; for the benchmark's owner and admins."""
        members = select(BenchmarkMember).filter_by(benchmark=uid)
        return page(members, BenchmarkMember.user_id, query)

    @of_owner(BENCHMARK)
    @blueprint.arguments(InviteSchema)
    @blueprint.response(201, MemberSchema)
    def post(self, values: dict[str, Any], uid: int) -> BenchmarkMember:
        """Invite a member by `email` (admins: or by `user`); the benchmark's owner or an admin."""
        user = invited_user(g.caller, find(BENCHMARK, uid), values)
        return add(BenchmarkMember(benchmark=uid, user_id=user.id))


@blueprint.route(f"/benchmarks/<{UID}:uid>/members/<{UID}:user>/")
class MemberView(MethodView):
    """One member of a benchmark."""

    @blueprint.response(204)
    def delete(self, uid: int, user: int) -> None:
        """Show it to this member no more; the benchmark's owner or an admin."""
        require_owner(g.caller, find(BENCHMARK, uid))
        if not uninvite(uid, user):
            abort(404, "Not found.")


def uninvite(benchmark: int, user: int) -> bool:
    """Show a benchmark to a member no more; whether they were invited."""
    member = db.session.get(BenchmarkMember, (benchmark, user))
    if member is not None:
        db.session.delete(member)
        db.session.flush()
    return member is not None
