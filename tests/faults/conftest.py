import os

import pytest

from .driver import Runner


@pytest.fixture(scope="session")
def runner():
    if not hasattr(os, "memfd_create"):
        pytest.skip("the runner of killed processes needs Linux")
    if os.environ.get("KERAS_BACKEND") != "torch":
        pytest.skip("what is killed is the same on every backend; PyTorch starts soonest")
    with Runner() as runner:
        yield runner
