"""Between a site and a registry: what is sent, what waits, and what is new."""
