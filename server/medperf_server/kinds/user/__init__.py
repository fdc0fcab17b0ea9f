"""Members of the consortium."""

from medperf_server.kinds.kind import Kind, Own
from medperf_server.kinds.user.schemas import UserSchema
from medperf_server.kinds.user.table import User

USER = Kind("user", "user", User, UserSchema(), sight=Own(User.id))
