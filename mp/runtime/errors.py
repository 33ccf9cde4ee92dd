"""What can go wrong, and how it is said. Imports neither torch nor another file of the project."""
import pickle
from pathlib import Path


class UserError(Exception):
    """Bad input: one line that names the thing and says what to do. The program ends with code 2."""


class RunError(Exception):
    """A run that went wrong midway, such as a loss that became NaN. The program ends with code 1."""


# What reading a file of text or JSON can raise, whatever somebody put into it.
DAMAGE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


def printable(text: str) -> str:
    """One line that a terminal shows as it is: names from files may hold newlines and worse."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def reason(error: Exception) -> str:
    """What an error says of a file, in a few words. Those of torch's and Python's readers are about themselves."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if "TorchScript" in text:
        return "a TorchScript archive"
    if isinstance(error, pickle.UnpicklingError):
        return "not plain tensors"
    if isinstance(error, NotImplementedError):
        return "packed in a way that isn't known here"
    if isinstance(error, (RuntimeError, EOFError, LookupError)):
        return "incomplete, or overwritten"
    return text.splitlines()[0][:120]


def unreadable(path: Path, error: Exception, what: str, advice: str) -> str:
    """A message: what a file is that can't be read, and what to do. If the trouble isn't its own, it may be good."""
    barred = isinstance(error, OSError) and error.filename and not isinstance(error, FileNotFoundError)
    if barred:  # by the system, so that nothing is known of the file
        return f"{path}: can't be read ({reason(error)}); mend that, then give the same command again"
    if short_of_memory(error):
        return (f"{path}: too large for the memory; give the same command where there is more, or if the file is "
                f"larger than it should be: {advice}")
    return f"{path}: {what} ({reason(error)}); {advice}"


def short_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "alloc_cpu" in str(error)
