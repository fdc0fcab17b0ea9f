"""The registry's pages in a real browser."""
