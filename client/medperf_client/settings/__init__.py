"""What a member chose: profiles and tokens."""
