"""The time of a sitting, and of each part of it; a pretend clock takes the place of minutes by a budget of steps."""

import itertools
import time
from collections.abc import Callable

GRACE = 20  # seconds after its end in which a sitting must have written everything


class Clock:
    """So many seconds from now: how much of them is gone, and how much is left."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic):
        self.seconds, self.now = max(0.0, seconds), now
        self.end = now() + self.seconds

    def left(self) -> float:
        return max(0.0, self.end - self.now())

    def gone(self) -> float:
        """The share that is over: from 0 to 1."""
        return 1 - self.left() / self.seconds if self.seconds else 1.0

    def part(self, share: float) -> "Clock":
        """A share of what is left, from now."""
        return Clock(share * self.left(), self.now)

    def every(self, seconds: float) -> Callable[[], bool]:
        """A question that is answered with yes once in so many seconds."""
        due = self.now() + seconds

        def is_due() -> bool:
            nonlocal due
            if self.now() < due:
                return False
            due = self.now() + seconds
            return True

        return is_due


def looks() -> Callable[[], float]:
    """A pretend clock: a second goes by whenever somebody looks at it, so minutes become a number of steps."""
    count = itertools.count()
    return lambda: float(next(count))
