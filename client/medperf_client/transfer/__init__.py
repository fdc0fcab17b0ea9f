"""Files from anywhere, verified while they stream."""
