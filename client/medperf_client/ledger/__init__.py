"""What left this site: written down before it goes, and told to whoever asks."""
