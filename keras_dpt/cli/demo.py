"""`keras-dpt demo`"""

import ipaddress
import os
import sys
import threading


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="try the presets in the browser",
        description="Serve a page on this machine: drop a photo, choose task and preset, see depth "
        "or labels and a 3-D view, download the files. Nothing is sent elsewhere.",
    )
    parser.add_argument(
        "--preset",
        help="offer only this one: name, file or directory (default: all that have a name)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that browsers may call this page by, such as a proxy's; may be given "
        "several times. Others are refused, so that no other site can use the page through a "
        "visitor's browser",
    )
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860 on)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.apps.demo_page import serving
    from keras_dpt.models.tasks import DEFAULT, task_of

    presets = None
    if args.preset:
        made_for = task_of(args.preset)
        presets = {made_for.task_name if made_for else DEFAULT: [args.preset]}
    if not _is_loopback(args.host):
        print(
            f"keras-dpt: warning: whoever can reach {args.host} can use this page and this "
            "machine's memory and CPU; there is no password.",
            file=sys.stderr,
        )
    try:
        options = {"allow_hosts": args.allow_host} if args.allow_host else {}
        with serving(
            args.host, args.port, presets, open_browser=not args.no_browser, **options
        ) as address:
            print(f"{address} (Ctrl-C stops it)", flush=True)
            try:
                never = threading.Event()
                while True:  # a wait without an end may not see Ctrl-C: another thread may get it
                    never.wait(1)
            except KeyboardInterrupt:
                print("stopping; Ctrl-C again does not wait for a running prediction", flush=True)
    except KeyboardInterrupt:
        os._exit(130)  # as shells say it; Python itself would wait for the prediction's thread
    print("stopped")
    return 0


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
