"""The terminal: messages, progress, output formats, plots, standard streams, Ctrl-C."""
