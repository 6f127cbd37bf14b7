"""`kws doctor`: what works on this machine, what is missing, and what brings it."""
