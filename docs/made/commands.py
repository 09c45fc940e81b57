"""The reference of the command line, from the parsers of `keras_dpt.cli`."""

import argparse
import copy
import re

from keras_dpt import cli
from made.markdown import code, table

INTRODUCTION = """\
# Command line

`keras-dpt COMMAND --help` prints the same as this page. Exit codes: 0 if all went well, 1 if some
images failed, 2 if all did or the command could not begin, 130 after Ctrl+C.
"""


def commands_page():
    """The page: a section per subcommand with its usage, arguments and defaults."""
    parser = cli._parser()
    summary = [[f"[`{sub.prog}`](#{anchor(sub.prog)})", text] for sub, text in subcommands(parser)]
    parts = [INTRODUCTION, table(["command", "what it does"], summary)]
    for sub, text in subcommands(parser):
        parts.append(_section(sub, text, 2))
        parts += [_section(inner, what, 3) for inner, what in subcommands(sub)]
    return "\n".join(parts)


def subcommands(parser):
    """`(parser, one line of help)` of each subcommand, in the order of `--help`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield action.choices[choice.dest], choice.help


def anchor(prog):
    """The part of a section's address after `#`."""
    return prog.replace(" ", "-")


def _section(parser, text, level):
    heading = f"{'#' * level} {parser.prog} {{ #{anchor(parser.prog)} }}\n"
    description = parser.description or f"{text[0].upper()}{text[1:]}."
    usage = code(_usage(parser))
    parts = [heading, f"{description}\n", usage]
    if rows := [_row(parser, action) for action in _arguments(parser)]:
        parts.append(table(["argument", "meaning", "default"], rows))
    return "\n".join(parts)


def _usage(parser):
    """The usage in lines that fit the site's column; argparse indents its own too deeply."""
    text = " ".join(parser.format_usage().removeprefix("usage: ").split())
    words = re.findall(r"\(.*?\)+(?=\s|$)|\[.*?\]+(?=\s|$)|\S+", text)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= 66:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return "\n".join(lines)


def _arguments(parser):
    return [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]


def _row(parser, action):
    formatter = parser._get_formatter()
    text = formatter._expand_help(action) if action.help else ""
    text, default = _without_default(text, action)
    if action.choices:
        text += f"{'; one' if text else 'one'} of {', '.join(f'`{c}`' for c in action.choices)}"
    shown = copy.copy(action)
    shown.metavar = action.metavar or action.dest.upper()  # not the list of choices
    values = formatter._format_args(shown, shown.metavar)
    names = [*action.option_strings, *([values] if values else [])]
    return [" ".join(f"`{name}`" for name in names), text, default]


def _without_default(text, action):
    """The help without "(default: ...)" at its end, and the default as a cell."""
    told = re.search(r"\s*\((?:default: (.*)|the default)\)$", text)
    if told:
        text = text[: told.start()]
    if action.required or not action.option_strings and action.nargs not in ("?", "*"):
        return text, "required"
    value = action.default
    if value is None or value is False or value == argparse.SUPPRESS:
        return text, (told[1] or "" if told else "")
    values = value if isinstance(value, list | tuple) else [value]
    return text, f"`{' '.join(map(str, values))}`"
