"""mutmut, or pytest on its mutants, with wrappers that Keras can read; for .ci/mutants.py.

    python .ci/mutmut_for_keras.py run NAME
    MUTANT_UNDER_TEST=NAME python .ci/mutmut_for_keras.py pytest tests/layers

Keras asks a layer's constructor for its arguments by `inspect.getfullargspec`, which sees nothing
but `*args, **kwargs` in the wrappers that mutmut puts around functions.
"""

import inspect
import sys

from mutmut.mutation import trampoline

wrap_in_trampoline = trampoline.wrap_in_trampoline


def wrap_with_signature(*args, **options):
    """As mutmut's, but the wrapper of a constructor has its signature."""
    decorate = wrap_in_trampoline(*args, **options)

    def decorated(function):
        wrapper = decorate(function)
        # Of no other: Keras wraps `build` once more, and would see the `self` of this signature.
        if function.__name__ == "__init__":
            wrapper.__signature__ = inspect.signature(function)
        return wrapper

    return decorated


trampoline.wrap_in_trampoline = wrap_with_signature

if __name__ == "__main__":
    if sys.argv[1] == "pytest":
        import pytest

        sys.exit(pytest.main(sys.argv[2:]))
    from mutmut.__main__ import cli

    cli()
