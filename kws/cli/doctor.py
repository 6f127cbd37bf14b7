"""`kws doctor`: what works on this machine."""

import sys

import click

from kws.doctor import examine


@click.command(
    epilog="Exit status: 0 kws works here, 1 something that it needs does not, 2 wrong usage."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one object: works; checks: section, name, needed, status, detail, remedy.",
)
def doctor(as_json: bool) -> None:
    """Check what works on this machine.

    Tries everything: imports packages, writes and reads a tone in each format, listens to the
    microphone for a moment, runs models, and has each speech engine say a word. Shows what installs
    the things that are missing. Keeps nothing.

    \b
    kws doctor
    kws doctor --json | jq '.checks[] | select(.status != "works")'
    """
    checks = []
    for section in examine.run():
        checks += section
        if not as_json:
            click.echo(examine.format_section(section))
    click.echo(examine.as_json(checks) if as_json else examine.summary(checks))
    sys.exit(int(any(check.fails for check in checks)))
