"""`python cli.py` in a checkout is the command `kws`."""

from kws.cli.main import main

if __name__ == "__main__":
    main(prog_name="kws")
