"""A random generator whose numbers are known, so that what is made of them can be computed."""

import numpy as np


class Chance:
    """Every number is at the same fraction of its range.

    Args:
        at: 0 to 1, in all ranges.
        randoms: what `random` returns, in turn; then `at`.
    """

    def __init__(self, at=0.5, randoms=()):
        self.at, self.randoms = at, list(randoms)

    def random(self):
        return self.randoms.pop(0) if self.randoms else self.at

    def uniform(self, low, high, size=None):
        low, high = np.asarray(low, float), np.asarray(high, float)
        value = low + self.at * (high - low)
        return float(value) if size is None and value.ndim == 0 else value * np.ones(size or ())

    def integers(self, low, high=None):
        low, high = (0, low) if high is None else (low, high)
        return low + min(int(self.at * (high - low)), high - low - 1)

    def normal(self, mean=0.0, deviation=1.0, size=None):
        """`mean + deviation * n` for n = 1, 2 and so on."""
        count = int(np.prod(size))
        return mean + deviation * np.arange(1.0, count + 1).reshape(size)
