"""Tests of the tutorial benchmark that stands in examples/."""
