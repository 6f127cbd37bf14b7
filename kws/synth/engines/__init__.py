"""Speech engines: what one is, and those that are there."""
