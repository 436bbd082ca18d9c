"""Errors that teach: one sentence that says what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class Problem(ValueError):
    """Something the reader can mend; shown as its one sentence, without a traceback, on the command line."""


def suggest(word: object, options: Iterable[object]) -> str:
    """The tail of an error about an unknown name: the nearest right one, else all of them."""
    names = [str(option) for option in options]
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else "choose from: " + ", ".join(names)
