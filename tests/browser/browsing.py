"""What the browser tests share."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "outputs" / "screenshots"
PATIENCE = 300_000  # milliseconds: a busy machine is no failure
