"""Messages about a dataset or another file that can't be read: one line for the user. Imports no other project file."""
import pickle


class DataError(ValueError):
    """A dataset is missing, damaged or too small; the message names it and says what to do."""


# What reading a file of text or JSON can raise, whatever somebody put into it.
DAMAGE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)
SHORT_OF_MEMORY = ("alloc_cpu", "allocate memory", "out of memory", "start new thread")  # in torch's and Python's words
CHECK_ALL = "; `run.py data --check` lists all such images"  # at the end of every message about an image
# Signs that take no room: within Persian words, between the signs of an emoji, and the letters within that of a flag.
JOINERS = "\u200c\u200d" + "".join(map(chr, range(0xE0020, 0xE0080)))


def printable(text: str) -> str:
    """Return one line that a terminal shows as it is: names from files may hold newlines and worse."""
    return "".join(c if c.isprintable() or c in JOINERS else ascii(c)[1:-1] for c in text)


def unreadable(path, error: Exception, what: str, advice: str) -> str:
    """Return the message about a file that can't be read: `what` it is, why, and the advice.

    If the trouble isn't the file's own, as where its folder can't be entered, the message says so.
    """
    if isinstance(error, OSError) and error.filename and not isinstance(error, FileNotFoundError):
        return f"{path}: can't be read ({reason(error)}); mend that, then give the same command again"
    if short_of_memory(error):
        return (f"{path}: too large for the memory; give the same command where there is more, or if the file is "
                f"larger than it should be: {advice}")
    return f"{path}: {what} ({reason(error)}); {advice}"


def unreadable_image(path, error: Exception, advice: str = "fetch it again") -> str:
    """Return the message about an image that can't be read, or is absent."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such image; the dataset is incomplete, unpack it again"
    return unreadable(path, error, "not a readable image", advice + CHECK_ALL)


def reason(error: Exception) -> str:
    """Return why a file can't be read, in a few words; the readers' own words are often about themselves."""
    if isinstance(error, pickle.UnpicklingError):
        return "not plain tensors"
    if isinstance(error, NotImplementedError):
        return "packed in a way that isn't known here"
    if isinstance(error, (RuntimeError, EOFError, LookupError)):
        return "incomplete, or overwritten"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:120]


def short_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in SHORT_OF_MEMORY)
