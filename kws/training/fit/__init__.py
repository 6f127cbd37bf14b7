"""The training loop and hard negatives."""
