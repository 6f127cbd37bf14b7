"""What happens to examples: mixing, rooms, microphones, noise, gain."""
