"""The one error a user is meant to read."""


class UserError(Exception):
    """Bad input, missing data or a full disk: one line that says what to do about it.

    The command line prints it as ``error: ...`` and exits with code 2, without a traceback.
    """
