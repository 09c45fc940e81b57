"""`keras-dpt study`: the paper's studies, and pictures of attention."""

from pathlib import Path

from keras_dpt.cli.evaluate import add_data_arguments, add_model_arguments, load_model, open_data

_HELP = {
    "resolution": "error at larger images than trained on (Figure 4)",
    "readout": "train with the class token ignored, added, projected (Table 7)",
    "taps": "train with the decoder listening to other layers (Table 6)",
    "encoders": "train a plain and a hybrid encoder (Table 8)",
    "cost": "parameters and milliseconds per image (Table 9)",
    "attention": "pictures of what the tapped blocks look at in a photo",
}


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    study = commands.add_parser(
        "study", help="repeat a study of the paper", description="Repeat a study of the paper."
    )
    studies = study.add_subparsers(required=True, metavar="STUDY")
    parsers = {name: studies.add_parser(name, parents=[common], help=_HELP[name]) for name in _HELP}
    for name, parser in parsers.items():
        parser.add_argument("-o", "--output", type=Path, default=Path("studies"), metavar="DIR")
        parser.set_defaults(run=_run, study=name)
    for name in ("resolution", "readout", "taps", "encoders"):
        add_model_arguments(parsers[name])
        add_data_arguments(parsers[name])
        parsers[name].add_argument("--batch-size", type=int, default=4, metavar="N")
        parsers[name].add_argument(
            "--protocol",
            required=True,
            metavar="NAME",
            help="how to measure, see keras-dpt evaluate",
        )
    parsers["resolution"].add_argument(
        "--factors", type=float, nargs="+", help="of the preset's size (default: 1 to 2)"
    )
    for name in ("readout", "taps", "encoders"):
        parsers[name].add_argument("--train-split", default="train", metavar="NAME")
        parsers[name].add_argument(
            "--train-limit", type=int, metavar="N", help="train on N images only"
        )
        parsers[name].add_argument("--epochs", type=int, default=3)
        parsers[name].add_argument("--learning-rate", type=float, default=5e-4)
        parsers[name].add_argument("--seed", type=int, default=0)
    cost = parsers["cost"]
    cost.add_argument("--preset", nargs="+", default=["dpt_mini_nyuv2", "dpt_hybrid", "dpt_large"])
    cost.add_argument(
        "--image-size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH")
    )
    cost.add_argument("--repeats", type=int, default=10, help="images timed (default: 10)")
    cost.add_argument("--dtype", help="policy of all layers, such as mixed_bfloat16")
    attention = parsers["attention"]
    add_model_arguments(attention)
    attention.add_argument("photo", metavar="PHOTO")
    attention.add_argument(
        "--point",
        type=float,
        nargs=2,
        action="append",
        metavar=("ROW", "COLUMN"),
        help="place to look from, in shares of the photo (default: upper right and lower left)",
    )


def _run(args):
    if args.study == "attention":
        return _attention(args)
    from keras_dpt.evaluation import studies

    result = {"resolution": _resolution, "cost": _cost}.get(args.study, _training)(args, studies)
    args.output.mkdir(parents=True, exist_ok=True)
    print(f"\n{result.source}\n\n{result.markdown()}")
    stem = args.output / args.study
    result.save(f"{stem}.json")
    studies.plot(result, f"{stem}.png")
    print(f"wrote {stem}.json and {stem}.png")
    return 0


def _resolution(args, studies):
    from keras_dpt.evaluation import get_protocol

    protocol = get_protocol(args.protocol)
    model = load_model(args, protocol)
    source = open_data(args, protocol, model)
    factors = args.factors or studies.RESOLUTIONS
    return studies.resolution_study(
        model, source, protocol, factors, args.limit, args.batch_size, progress=None
    )


def _training(args, studies):
    from keras_dpt.evaluation import get_protocol

    model, protocol = None, get_protocol(args.protocol)
    if protocol.reader == "folder" and protocol.target == "labels":
        model = load_model(args, protocol)  # knows the names of the classes
    val = open_data(args, protocol, model)
    args.split = args.train_split
    train = open_data(args, protocol, model)
    if args.train_limit and args.train_limit < len(train):
        step = len(train) // args.train_limit
        train = train.subset(slice(None, step * args.train_limit, step))
    preset = _resized(args)
    return studies.training_study(
        args.study,
        preset,
        train,
        val,
        protocol,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        limit=args.limit,
        seed=args.seed,
        dtype=args.dtype,
    )


def _resized(args):
    """The preset as a dict, with the image size of the command line."""
    from keras_dpt import presets

    preset = presets.read_preset(args.preset)
    if args.image_size:
        preset["image"]["image_size"] = list(args.image_size)
    return preset


def _cost(args, studies):
    return studies.cost_study(args.preset, tuple(args.image_size), args.repeats, args.dtype)


def _attention(args):
    from keras_dpt.evaluation import attention_maps, draw_attention
    from keras_dpt.evaluation.attention import CORNERS
    from keras_dpt.images.reading import write_picture

    maps = attention_maps(load_model(args), args.photo, args.point or CORNERS)
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{Path(args.photo).stem}_attention.png"
    write_picture(draw_attention(args.photo, maps), path)
    print(f"wrote {path}")
    return 0
