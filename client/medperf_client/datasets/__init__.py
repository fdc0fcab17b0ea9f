"""A member's own data: where they are, how they are prepared, how they move. It is no cache."""
