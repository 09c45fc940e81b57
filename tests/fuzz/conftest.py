"""How many examples: few by default, as many as FUZZ says for `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "few",
    max_examples=int(os.environ.get("FUZZ", 25)),
    derandomize="FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("few")
