"""To whom a benchmark is shown while it is private."""

from typing import Any

from flask import abort, g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import UID, Blueprint, find, of_owner, page, page_of
from medperf_server.models import Benchmark, BenchmarkMember, db
from medperf_server.policy import invited_user, require_owner
from medperf_server.schemas import InviteSchema, MemberSchema, PageQuery

blueprint = Blueprint("members", __name__, description="Members of private benchmarks")


@blueprint.route(f"/benchmarks/<{UID}:uid>/members/")
class MembersView(MethodView):
    """The members of a benchmark."""

    @of_owner(Benchmark)
    @blueprint.arguments(PageQuery, location="query")
    @blueprint.response(200, page_of(MemberSchema))
    def get(self, query: dict[str, Any], uid: int) -> dict[str, Any]:
        """Who is invited; for the benchmark's owner and admins."""
        members = select(BenchmarkMember).filter_by(benchmark=uid)
        return page(members, BenchmarkMember.user_id, query)

    @of_owner(Benchmark)
    @blueprint.arguments(InviteSchema)
    @blueprint.response(201, MemberSchema)
    def post(self, values: dict[str, Any], uid: int) -> BenchmarkMember:
        """Invite a member by `email` (admins: or by `user`); the benchmark's owner or an admin."""
        user = invited_user(g.caller, find(Benchmark, uid), values)
        member = BenchmarkMember(benchmark=uid, user_id=user.id)
        db.session.add(member)
        db.session.flush()
        return member


@blueprint.route(f"/benchmarks/<{UID}:uid>/members/<{UID}:user>/")
class MemberView(MethodView):
    """One member of a benchmark."""

    @blueprint.response(204)
    def delete(self, uid: int, user: int) -> None:
        """Show it to this member no more; the benchmark's owner or an admin."""
        require_owner(g.caller, find(Benchmark, uid))
        member = db.session.get(BenchmarkMember, (uid, user))
        if member is None:
            abort(404, "Not found.")
        db.session.delete(member)
