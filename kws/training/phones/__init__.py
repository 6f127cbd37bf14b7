"""Phone recognition (CTC), the pre-training of encoder and verifier."""
