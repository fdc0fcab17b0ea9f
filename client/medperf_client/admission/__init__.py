"""What a site lets run on its own data."""
