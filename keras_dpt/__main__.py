"""`python -m keras_dpt` is the command `keras-dpt`."""

import sys

from keras_dpt.cli import main

if __name__ == "__main__":
    sys.exit(main())
