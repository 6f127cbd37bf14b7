"""The command line: one file a command.

The work of commands that need the training packages stands in NAME_run.py, so that NAME.py can be
imported, and shows its help, without them.
"""
