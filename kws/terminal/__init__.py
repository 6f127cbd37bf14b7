"""What a person at a terminal sees: progress, results, plots, standard streams."""
