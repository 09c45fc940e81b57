"""`keras-dpt evaluate` and `keras-dpt tabulate`"""

import shlex
import sys
from pathlib import Path

_MARKS = "<!-- evaluations: begin -->\n", "<!-- evaluations: end -->\n"


def add_parser(commands, common):
    """Add the subcommands to the parser."""
    parser = commands.add_parser(
        "evaluate",
        parents=[common],
        help="measure a preset on a data set",
        description="Measure a preset on a data set by a named protocol. Writes PRESET_PROTOCOL "
        ".json (everything needed to repeat it, with values of each image) and .html (a report); "
        "goes on where an interrupted run stopped.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--protocol",
        required=True,
        metavar="NAME",
        help="such as nyu_eigen; --protocol list shows them all",
    )
    add_data_arguments(parser)
    parser.add_argument("--batch-size", type=int, default=4, metavar="N")
    parser.add_argument("-o", "--output", type=Path, default=Path("evaluations"), metavar="DIR")
    parser.add_argument(
        "--unnamed",
        action="store_true",
        help="measure although number or size of images do not fit the protocol; the result says "
        "so and does not bear its name",
    )
    parser.add_argument("--fresh", action="store_true", help="do not continue an interrupted run")
    parser.add_argument("--no-report", action="store_true", help="write no .html")
    parser.set_defaults(run=_evaluate)

    table = commands.add_parser(
        "tabulate", parents=[common], help="make one Markdown table of saved evaluations"
    )
    table.add_argument("results", nargs="+", type=Path, metavar="JSON")
    table.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help=f"put the table between the lines {_MARKS[0].strip()} and {_MARKS[1].strip()} of FILE",
    )
    table.set_defaults(run=_tabulate)


def add_model_arguments(parser):
    """`--preset`, `--image-size`, `--dtype`."""
    parser.add_argument(
        "--preset", default="dpt_mini_nyuv2", help="name, file or directory (default: %(default)s)"
    )
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="resize images to about this size (default: the preset's)",
    )
    parser.add_argument("--dtype", help="policy of all layers, such as mixed_bfloat16")


def add_data_arguments(parser):
    """`--data`, `--split`, `--unit`, `--limit`."""
    parser.add_argument("--data", metavar="DIR", help="folder (or file) of the data set")
    parser.add_argument("--split", help="another split than the protocol's")
    parser.add_argument(
        "--unit", default="mm", help="of depth files of your own: mm, m or metres per number"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N images, spread over the set")


def load_model(args, protocol=None):
    """The model of `--preset`, whatever its task, as the other arguments want it."""
    from keras_dpt.models.tasks import load_task, task_for

    options = {"dtype": args.dtype} if args.dtype else {}
    model = load_task(args.preset, protocol and task_for(protocol.target), **options)
    if args.image_size:
        model.preprocessor.image_size = tuple(args.image_size)
    return model


def open_data(args, protocol, model):
    """The data set of `--data`, as the protocol means it."""
    from keras_dpt.errors import EvaluationError
    from keras_dpt.evaluation.sources import open_source

    if not args.data:
        raise EvaluationError(f"--data DIR is missing: where {protocol.data} are.")
    unit = args.unit if args.unit in ("mm", "m") else float(args.unit)
    return open_source(protocol, args.data, args.split, unit, getattr(model, "class_names", None))


def _evaluate(args):
    from keras_dpt.evaluation import PROTOCOLS, evaluate, get_protocol
    from keras_dpt.evaluation.tables import class_table, text_table

    if args.protocol == "list":
        for name, protocol in PROTOCOLS.items():
            print(f"{name:28}{protocol.data}")
        return 0
    protocol = get_protocol(args.protocol)
    model = load_model(args, protocol)
    source = open_data(args, protocol, model)
    args.output.mkdir(parents=True, exist_ok=True)
    name = Path(args.preset).name
    stem = args.output / f"{name}_{protocol.name}"
    if args.fresh:
        for file in args.output.glob(f"{protocol.name}-*.jsonl"):
            file.unlink()
    evaluation = evaluate(
        model,
        source,
        protocol,
        limit=args.limit,
        unnamed=args.unnamed,
        batch_size=args.batch_size,
        journal=args.output,
        about={"preset": name, "command": shlex.join(["keras-dpt", *sys.argv[1:]])},
        progress=None,
        save_to=f"{stem}.json",
    )
    print(text_table(evaluation))
    if protocol.target == "labels":
        print(class_table(evaluation, model.class_names))
    print(f"wrote {stem}.json")
    if not args.no_report:
        from keras_dpt.evaluation.report import write_report

        write_report(evaluation, model, source, f"{stem}.html", name)
        print(f"wrote {stem}.html")
    return 0


def _tabulate(args):
    from keras_dpt.evaluation.result import Evaluation
    from keras_dpt.evaluation.tables import markdown_table

    evaluations = [Evaluation.load(path) for path in args.results]
    table = markdown_table([(e.provenance.get("preset", "model"), e) for e in evaluations])
    print(table, end="")
    if args.into:
        _put_between_marks(args.into, table)
    return 0


def _put_between_marks(path, table):
    from keras_dpt.errors import EvaluationError
    from keras_dpt.files import written_whole

    text = path.read_text(encoding="utf-8")
    if not all(text.count(mark) == 1 for mark in _MARKS):
        raise EvaluationError(f"{path} lacks the lines {_MARKS[0].strip()}, {_MARKS[1].strip()}.")
    before, rest = text.split(_MARKS[0])
    after = rest.split(_MARKS[1])[1]
    with written_whole(path, EvaluationError) as file:
        file.write(f"{before}{_MARKS[0]}{table}{_MARKS[1]}{after}".encode())
