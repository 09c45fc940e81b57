"""`keras-dpt points`"""

from pathlib import Path


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "points",
        parents=[common],
        help="turn a photo into a coloured point cloud",
        description="Put a photo's pixels into space: estimates depth, or reads it, and writes "
        "coloured points. The camera's field of view is taken from the photo's EXIF unless given.",
    )
    parser.add_argument("photo", metavar="PHOTO")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".ply, .glb or .gltf (default: the photo's name with .ply, here)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--preset",
        default="dpt_mini_nyuv2_metric",
        help="name, file or directory (default: %(default)s, for trying out; dpt_hybrid_nyu is "
        "more accurate indoors)",
    )
    source.add_argument(
        "--depth",
        metavar="FILE",
        help="depth of the photo instead of a preset: .png of keras-dpt, or .npy, .pfm in metres",
    )
    parser.add_argument(
        "--known",
        type=float,
        nargs=3,
        action="append",
        metavar=("ROW", "COLUMN", "METRES"),
        help="a known depth; relative presets need two of them or more, at different depths",
    )
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--fov", type=float, metavar="DEGREES", help="horizontal field of view")
    camera.add_argument(
        "--focal",
        type=float,
        nargs=2,
        metavar=("FOCAL_MM", "SENSOR_MM"),
        help="focal length and the sensor's side along the photo's width",
    )
    camera.add_argument(
        "--intrinsics", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="in pixels"
    )
    parser.add_argument(
        "--intrinsics-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size the intrinsics were calibrated at, if not the photo's",
    )
    parser.add_argument(
        "--max-depth", type=float, metavar="METRES", help="leave out what is farther"
    )
    parser.add_argument(
        "--max-tilt",
        type=float,
        metavar="DEGREES",
        help="leave out surfaces turned further away from the camera: 85 removes points in "
        "mid-air at the edges of objects",
    )
    parser.add_argument(
        "--max-points",
        type=int,
        default=1_000_000,
        metavar="N",
        help="take every n-th row and column to stay below (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.images.reading import read_image
    from keras_dpt.maps.points import check_point_file, check_tilt, depth_to_points, pinhole

    output = args.output or Path(f"{Path(args.photo).stem or 'points'}.ply")
    # All that can be wrong is found before the network runs.
    check_point_file(output)
    check_tilt(args.max_tilt)
    size = read_image(args.photo).shape[:2]
    _check_known(args.known or (), *size)
    camera = _camera(args)
    print(f"camera: {pinhole(size, **camera).fov(size[1]):.1f} degrees wide")
    points = depth_to_points(
        _depth(args),
        args.photo,
        **camera,
        max_depth=args.max_depth,
        max_points=args.max_points,
        max_tilt=args.max_tilt,
    )
    points.save(output)
    print(f"{points} written to {output}")
    return 0


def _camera(args):
    """The camera as arguments of `depth_to_points`."""
    from keras_dpt.errors import DepthError
    from keras_dpt.maps.points import exif_fov

    focal_mm, sensor_mm = args.focal or (None, None)
    camera = {
        "intrinsics": args.intrinsics,
        "intrinsics_size": args.intrinsics_size,
        "fov": args.fov,
        "focal_mm": focal_mm,
        "sensor_mm": sensor_mm,
    }
    if not any((args.intrinsics, args.fov is not None, args.focal)):
        camera["fov"] = exif_fov(args.photo)
        if camera["fov"] is None:
            raise DepthError(
                f"{args.photo} does not say what its camera saw. Pass --fov DEGREES (a phone's "
                "main camera has about 65 to 70), --focal or --intrinsics."
            )
    return camera


def _check_known(known, height, width):
    from keras_dpt.errors import DepthError
    from keras_dpt.maps.metres import check_metres

    for row, column, metres in known:
        if not (0 <= row < height and 0 <= column < width and metres > 0):
            raise DepthError(
                f"--known {row:g} {column:g} {metres:g} is not in the photo, which has {height} "
                f"rows and {width} columns, or not above 0 metres."
            )
    check_metres([metres for _, _, metres in known], name="--known")
    if len(known) == 1:
        raise DepthError("Two --known or more are needed, at different depths. Received: one.")


def _depth(args):
    """The photo's depth in metres: read, or estimated."""
    from keras_dpt.cli.photos import load
    from keras_dpt.errors import DepthError
    from keras_dpt.maps.depth_map import DepthMap
    from keras_dpt.models.depth import DPTDepth

    if args.depth:
        kind = None if Path(args.depth).suffix.lower() == ".png" else "metric_depth"
        depth = DepthMap.load(args.depth, kind)
        is_relative, source = depth.kind != "metric_depth", args.depth
    else:
        model = load(DPTDepth, args.preset)
        is_relative, source = model.kind != "metric_depth", args.preset
    if is_relative and not args.known:
        raise DepthError(
            f"{source} has relative depth, which has no scale. Pass --known ROW COLUMN "
            "METRES two times or more, at places of different depth, or take a metric preset."
        )
    if args.known and not is_relative:
        raise DepthError(f"{source} has metres already: leave out --known.")
    if not args.depth:
        depth = model.predict_image(args.photo)
    return depth.to_metric(points=args.known) if args.known else depth
