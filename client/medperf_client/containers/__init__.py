"""Containers: what their configuration says, and the platforms that run them."""
