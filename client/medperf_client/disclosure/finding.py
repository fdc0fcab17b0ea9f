"""What a rule says of one key."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """That the value of a key, by a rule, would tell of single persons; `why` is a sentence.

    With `is_name` it is the key itself that tells, and is not to be repeated.
    """

    key: str
    rule: str
    why: str
    is_name: bool = False

    def record(self) -> dict[str, object]:
        """The same as JSON, for scripts."""
        return {name: value for name, value in asdict(self).items() if name != "is_name"}
