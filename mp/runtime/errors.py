class UserError(Exception):
    """Bad input: one line that names the thing and says what to do. The program ends with code 2."""


class RunError(Exception):
    """A run that went wrong midway, such as a loss that became NaN. The program ends with code 1."""


# What reading a file of text or JSON can raise, whatever somebody put into it.
DAMAGE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


def printable(text: str) -> str:
    """One line that a terminal shows as it is: names from files may hold newlines and worse."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
