"""What is wrong with a dataset, in one line for the user."""


class DataError(ValueError):
    """A dataset is missing, damaged or too small; the message names it and says what to do."""


# What reading a file of text or JSON can raise, whatever somebody put into it.
DAMAGE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


def unreadable(path, error: Exception, what: str, advice: str) -> str:
    """Of a file that can't be read: `what` it is, why, and what to do. If the trouble isn't its own, it may be good."""
    if isinstance(error, MemoryError):
        return (f"{path}: too large for the memory; give the same command where there is more, or if the file is "
                f"larger than it should be: {advice}")
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, OSError) and error.filename and not isinstance(error, FileNotFoundError):
        return f"{path}: can't be read ({why}); mend that, then give the same command again"
    if isinstance(error, (RuntimeError, EOFError, LookupError)):  # which tell about the reader, not the file
        why = "incomplete, or overwritten"
    return f"{path}: {what} ({why.splitlines()[0][:120]}); {advice}"


def unreadable_image(path, error: Exception, advice: str = "fetch it again") -> str:
    """The same of an image, which may also be absent."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such image; the dataset is incomplete, unpack it again"
    return unreadable(path, error, "not a readable image", f"{advice}; `run.py data --check` lists all such images")
