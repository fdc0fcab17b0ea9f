"""What another member of a site agrees to before it leaves."""
