"""What a site signs of its results, and how anybody verifies it."""
