"""Results as files for others: a research object (RO-Crate), a table, and JSON."""
