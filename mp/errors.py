class UserError(Exception):
    """Bad input: one line that names the thing and says what to do. The program ends with code 2."""


class RunError(Exception):
    """A run that went wrong midway, such as a loss that became NaN. The program ends with code 1."""
