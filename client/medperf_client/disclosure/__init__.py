"""What of a document about data would tell of single persons: rules, findings, what clears them."""
