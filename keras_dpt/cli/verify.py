"""`keras-dpt verify`"""

from pathlib import Path


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "verify",
        parents=[common],
        help="fetch official weights and compare with the original networks",
        description="Fetch each official file of presets, check its sha256, convert it strictly, "
        "and compare the network's output with the original's on three images. Goes on where an "
        "interrupted run stopped. Exit code: 1 if a file failed.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="preset")
    parser.add_argument("--all", action="store_true", help="every preset with an official file")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("verification"),
        metavar="DIR",
        help="folder of verification.json (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        metavar="X",
        help="largest difference that is rounding, in standard deviations (default: %(default)s)",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        choices=(1, 2, 3),
        default=3,
        metavar="N",
        help="compare on the first N images, to save time (default: %(default)s)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="do not go on with an earlier run's results"
    )
    parser.add_argument(
        "--update-presets",
        action="store_true",
        help="write the sha256 of verified files into the presets that lack it",
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt import presets
    from keras_dpt.verification.report import table
    from keras_dpt.verification.updating import update_presets
    from keras_dpt.verification.verify import FAILED, verify

    if bool(args.names) == args.all:
        raise ValueError("Name presets, or pass --all.")
    names = args.names
    if args.all:
        names = [x for x in presets.preset_names() if presets.read_preset(x)["sources"]]
    names = list(dict.fromkeys(names))
    results = verify(names, args.out, args.tolerance, args.fresh, _say, args.pictures)
    print(f"\n{table(results)}\nwrote {args.out / 'verification.json'}")
    if args.update_presets:
        changed = update_presets(results)
        print(f"Presets with new hashes: {', '.join(changed) or 'none'}")
    return 1 if any(row["status"] == FAILED for row in results) else 0


def _say(line):
    print(line, flush=True)
