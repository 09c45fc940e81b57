"""`keras-dpt presets`"""


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser("presets", parents=[common], help="list the presets")
    parser.add_argument("--task", help='presets of one task only, such as "depth"')
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.presets import list_presets

    list_presets(args.task)
    return 0
