"""Say in plain words when this Python cannot hold posestill. Runs on any Python 3, before anything is installed."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (this file exists for older ones)
    sys.exit(
        "posestill needs Python 3.10 or newer; this is %d.%d (%s).\n"  # noqa: UP031
        "Install a newer one and name it: make PYTHON=python3.12 quickstart"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
try:
    import ensurepip  # noqa: F401
    import venv  # noqa: F401
except ImportError:
    sys.exit(
        "This Python cannot make virtual environments (its venv module is missing).\n"
        "On Debian or Ubuntu: apt install python3-venv. Then run the same command again."
    )
