"""The command `graphloss`: thin; every option of `train` is a field of `config`, and every subcommand one call."""

from graphloss.cli.application import app, main

__all__ = ["app", "main"]
