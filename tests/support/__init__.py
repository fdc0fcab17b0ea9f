"""What the tests share: real processes and services to test against."""
