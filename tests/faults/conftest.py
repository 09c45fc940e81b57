import os

import pytest

from .driver import Runner


@pytest.fixture(scope="session")
def runner():
    if not hasattr(os, "memfd_create"):
        pytest.skip("the runner of killed processes needs Linux")
    pytest.importorskip("torch")
    with Runner() as runner:
        yield runner
