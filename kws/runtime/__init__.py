"""The runtime: a model file, one stateful step, a verifier, a post-processor; no torch."""
