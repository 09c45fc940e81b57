"""The server and the caches of the tests of weights."""

from weights.conftest import cache, hub, server  # noqa: F401
