"""The command `keras-dpt`: parses, calls the public API, prints. One module per subcommand.

Modules of subcommands import what they need, Keras above all, when they run: help, usage errors and
`keras-dpt presets` answer at once.
"""

import argparse
import sys

from keras_dpt.cli import (
    convert,
    demo,
    depth,
    evaluate,
    export,
    points,
    presets,
    process,
    publish,
    segment,
    study,
    verify,
)
from keras_dpt.cli.backend import about_the_backend
from keras_dpt.errors import KerasDPTError
from keras_dpt.logs import quiet_frameworks
from keras_dpt.memory import keep_freed_memory
from keras_dpt.version import __version__

COMMANDS = (depth, segment, points, demo, evaluate, study, presets, convert, export)
COMMANDS += (verify, publish)


def main(argv=None):
    """Run the command line; returns the exit code: 0, 1 if an image failed, 2 if all did.

    Args: argv: arguments; by default those of this process, whose terminal then stays free of the
        logs of TensorFlow, XLA and CUDA unless one of them is `--debug`.
    """
    process.prepare_streams()
    try:
        try:
            args = _parser().parse_args(argv)
            if argv is None and not args.debug:
                quiet_frameworks()
            return _run(args)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read, such as `head`, has seen enough.
        process.silence_broken_streams()
        return process.BROKEN_PIPE


def _run(args):
    keep_freed_memory()
    try:
        with process.cleaned_up_when_told():
            return args.run(args)
    except BrokenPipeError:
        raise
    except (KerasDPTError, ValueError, OSError, ImportError) as error:
        message = about_the_backend(error) or error
        if args.debug or message is error and isinstance(error, ImportError):
            raise
        print(f"keras-dpt: {message}", file=sys.stderr)
        return 2
    except process.Told as told:
        print(f"keras-dpt: ended by {told}", file=sys.stderr)
        return told.code
    except KeyboardInterrupt:
        print("keras-dpt: interrupted", file=sys.stderr)
        return 130


def _parser():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", help="show tracebacks and the logs of TensorFlow"
    )
    parser = argparse.ArgumentParser(
        prog="keras-dpt", description="Dense Prediction Transformers for Keras 3."
    )
    parser.add_argument("--version", action="version", version=f"keras-dpt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_parser(commands, common)
    return parser
