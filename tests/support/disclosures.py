"""What a site says of its disclosure check, as it goes along with a result."""

from typing import Any

CHECKED: dict[str, Any] = {
    "digest": "0" * 64,
    "rules": 1,
    "thresholds": {"min_count": 10, "dominance": 0.5, "min_words": 5},
    "accepted": [
        {
            "key": "label_counts.rare",
            "rule": "threshold",
            "because": "Public data",
            "at": "2026-03-01T10:00:00+00:00",
        }
    ],
    "allowed": [{"key": "confusion[0][1]", "rule": "threshold", "because": "Errors may be told"}],
    "redacted": ["age.min"],
    "unresolved": [{"key": "per_site.range", "rule": "extremes"}],
}
