"""The commands about data sets: which there are, what is in one, fetching one."""

from typing import Annotated

import typer

from graphloss.cli.options import AsJson, KeepNa, Label, NoHeader, Quiet, Text, output, print_json
from graphloss.errors import InputError


def list_data(*, as_json: AsJson = False) -> None:
    """List the data sets that are known by name, and whether they are here."""
    from graphloss.cli.tables import corpora_table
    from graphloss.text.data_sources import list_corpora

    rows = list_corpora()
    if as_json:
        for row in rows:
            print_json(row._asdict())
    else:
        output().print(corpora_table(rows))


def show_data(
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder, name, builtin, or hub:NAME.")],
    *,
    text: Text = None,
    label: Label = None,
    no_header: NoHeader = False,
    keep_na: KeepNa = False,
    as_json: AsJson = False,
) -> None:
    """Show what is in a data set: splits, classes, lengths."""
    from dataclasses import asdict

    from graphloss.cli.tables import corpus_table
    from graphloss.text.corpus import load_corpus
    from graphloss.text.corpus_summary import describe
    from graphloss.training.progress import Screen

    corpus = load_corpus(source, text=text, label=label, no_header=no_header, keep_na=keep_na)
    Screen().warn(*corpus.warnings)
    shown = describe(corpus)
    if as_json:
        print_json(asdict(shown))
    else:
        output().print(corpus_table(shown))


def prepare_data(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names that `data list` shows, or all.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace what this command wrote before.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch known data sets from their public homes into the cache."""
    from graphloss.research.datasets.fetch import download_bar
    from graphloss.research.datasets.prepare import check_names, prepare_corpus
    from graphloss.training.progress import Screen

    failed = []
    for name in check_names(names):
        try:
            with download_bar(quiet=quiet) as on_bytes:
                done = prepare_corpus(name, force=force, on_bytes=on_bytes)
        except InputError as error:  # go on to the other data sets
            failed.append(str(error))
            continue
        Screen().warn(*done.warnings)
        if as_json:
            print_json(done._asdict())
        else:
            print(done.line())
    if failed:
        raise InputError("\n".join(failed))
