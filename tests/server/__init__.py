"""Tests of the registry, over a real socket."""
