"""The one exception that means "the input is wrong, and here is how to repair it".

The command line prints its message without a traceback and exits with code 2; Python callers catch it as a
`ValueError`.
"""


class InputError(ValueError):
    """What was expected, what came, and how to repair it, in a message fit for the person who typed the command."""


def first_line(error: BaseException) -> str:
    """The reason of an error of a library, of which some have many lines, and some none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
