"""Python imports this by itself at its start when the folder is on PYTHONPATH."""

import blocked

blocked.block()
