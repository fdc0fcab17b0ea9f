"""Where no network leads: bundles, what they carry, and whose they are."""
