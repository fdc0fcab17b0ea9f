"""Kinds that only these tests have: gadgets, how they fit benchmarks, what they show there."""
