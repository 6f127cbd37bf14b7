"""Reports of an evaluation: text, and an HTML page with plots and examples."""
