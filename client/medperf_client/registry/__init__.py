"""HTTP to a registry: the form of what it sends, and files for it to store."""
