"""Members of a registry; each sees themselves."""

from medperf_client.kinds.kind import Kind

USER = Kind(name="user", word="member", form={"id": int, "email": str}, is_carried=False)
