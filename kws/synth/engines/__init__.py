"""Speech engines: their interface, one module for each, and a registry."""
