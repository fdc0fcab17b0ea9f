"""Public keys, by which members sign what they send."""

from medperf_server.kinds.key.schemas import KeySchema
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.kind import Kind

KEY = Kind("signing_key", "signing key", Key, KeySchema())
