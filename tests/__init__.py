"""Tests of the product, by what they are about."""
