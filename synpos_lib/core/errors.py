"""Errors for the reader: one sentence with the problem, its place and the remedy."""

import difflib
import unicodedata
from collections.abc import Iterable

UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: controls, bytes that are no UTF-8, ends of lines


class Problem(ValueError):
    """A problem that the reader can solve; the command line shows its one sentence without a traceback."""

    def __init__(self, sentence: str):
        super().__init__("\\n".join(sentence.splitlines()))  # on one line, whatever names it quotes


class Damaged(Problem):
    """A file was not what this library had written, and is set aside."""


def printable(text: str) -> str:
    """A name for a message: as it is, or with escapes if that would break the line or its encoding."""
    return ascii(text) if UNPRINTABLE & set(map(unicodedata.category, text)) else text


def suggest(word: object, options: Iterable[object]) -> str:
    """The end of an error about an unknown name: the nearest known one, else all of them."""
    names = [str(option) for option in options]
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else "choose from: " + ", ".join(names)
