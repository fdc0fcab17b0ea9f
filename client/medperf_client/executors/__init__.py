"""Where steps are done other than in the client's own process."""
