"""`keras-dpt publish`"""


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "publish",
        parents=[common],
        help="upload a converted preset with its model card",
        description="Upload a preset in Keras's format, with a model card of its licence, training "
        "data, scores and parity. Without --yes it shows what would be uploaded. Weights whose "
        "licence allows no copies are refused.",
    )
    parser.add_argument("preset", metavar="PRESET", help="name, or folder of a converted preset")
    parser.add_argument(
        "--to",
        required=True,
        metavar="ADDRESS",
        help="hf://USER/REPOSITORY or kaggle://USER/MODEL/keras/VARIATION",
    )
    parser.add_argument("--yes", action="store_true", help="upload; without it nothing is sent")
    parser.add_argument(
        "--private", action="store_true", help="make a new hub repository a private one"
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.publish import README, staged, upload

    with staged(args.preset, args.to) as folder:
        files = sorted(folder.iterdir())
        width = max(len(file.name) for file in files)
        for file in files:
            print(f"{file.name:<{width}}  {file.stat().st_size:>14,} bytes")
        if not args.yes:
            print(f"\n{README}:\n\n{(folder / README).read_text(encoding='utf-8')}")
            print(f"Nothing was uploaded to {args.to}; pass --yes to do it.")
            return 0
        upload(folder, args.to, private=args.private or None)
    print(f"uploaded to {args.to}")
    return 0
