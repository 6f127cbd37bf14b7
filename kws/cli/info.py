"""`kws info`: what a model says about itself."""

import click


@click.command()
@click.argument("model", default="welcome")
def info(model: str) -> None:
    """Describe a model.

    Prints words, sizes, latency, thresholds, training sources and licences.

    \b
    kws info
    kws info models/yes.kws
    """
    from kws.runtime.model_file import find_model, read_model
    from kws.terminal.describe import describe

    click.echo(describe(read_model(find_model(model)).info))
