"""Errors, and the words in which they are told. Imports no torch, and only what `data/` says of files, too."""
from data.errors import DAMAGE, printable, reason, short_of_memory, unreadable  # which the rest of mp/ takes from here


class UserError(Exception):
    """Bad input: one line that names the thing and says what to do. The program ends with code 2."""


class RunError(Exception):
    """A run that went wrong midway, such as a loss that became NaN. The program ends with code 1."""
