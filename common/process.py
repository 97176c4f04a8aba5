"""The process of a command line, made fit for work wherever it was started: by a daemon, with a user's settings."""

import io
import os
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

FIRST_YEAR, LAST_YEAR = 1980, 2107  # of a date in an archive (APPNOTE.TXT of PKWARE, 4.4.6)
IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # Python's own defaults


def prepare() -> None:
    """What a command line does first. It changes the process for good, so a library must not call it.

    Closed standard streams lead nowhere, text that a terminal cannot show is replaced, warnings of packages are not
    errors, and Matplotlib draws without a screen and with its own settings alone.

    Exits with code 2 and one line if the clock is before 1980, or after 2107: no archive holds such a date, and a saved
    network is one.
    """
    _open_streams()
    if sys.warnoptions:  # PYTHONWARNINGS=error would make an error of every package that TensorFlow is behind with
        warnings.resetwarnings()
        for category in IGNORED:
            warnings.simplefilter("ignore", category)
    _keep_settings_from_matplotlib()
    year = time.localtime().tm_year
    if not FIRST_YEAR <= year <= LAST_YEAR:
        print(f"error: the clock says {year}, a year that saved networks cannot hold; set the clock", file=sys.stderr)
        sys.exit(2)


def _open_streams() -> None:
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:  # the next file to be opened would take its place, and what TensorFlow's C++ says go there
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (until the process ends)
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="replace")  # a terminal without "±" or "→" is no reason to stop


def _keep_settings_from_matplotlib() -> None:
    """Source: https://matplotlib.org/stable/users/explain/customizing.html#customizing-with-matplotlibrc-files."""
    os.environ["MPLBACKEND"] = "agg"
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        return
    defaults = Path(package.origin).parent / "mpl-data"
    os.environ["MATPLOTLIBRC"] = str(defaults / "matplotlibrc")  # before the user's own
    if os.path.exists("matplotlibrc"):  # which goes before the variable: imported elsewhere, it is not seen
        here = os.getcwd()
        os.chdir(defaults)
        try:
            import matplotlib  # noqa: F401
        finally:
            os.chdir(here)
