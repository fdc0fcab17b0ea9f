"""Running what a benchmark consists of: steps, tests, and what they need on this machine."""
