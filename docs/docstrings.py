"""For mkdocstrings: this package's sections and lists as the Markdown that they are read as."""

import re
import textwrap

import griffe

# What mkdocstrings lists, name by name, if the section is a block.
_NAMES = "Args|Attributes|Raises|Warns"
# What is text; as blocks, mkdocstrings would put a dash before it or a box around it.
_TEXTS = "Gives|Inputs|Predictions|Returns|Sample weights|Source|Targets|Yields"
# "Returns: a map" and what follows, indented deeper, until the next line at the left.
_ONE_LINE = re.compile(rf"^({_NAMES}|{_TEXTS}): (\S.*(?:\n[ \t]+\S.*)*)", flags=re.MULTILINE)
# "Returns:", and all of it below.
_BLOCK = re.compile(
    rf"^({_TEXTS}):[ \t]*\n((?:[ \t]+\S.*(?:\n|\Z)|[ \t]*\n(?=[ \t]+\S))+)", flags=re.MULTILINE
)
# "factor: output / input size" or "height, width: pixels", below "Args: ".
_NAMED = re.compile(r"[\w.*]+(?:, [\w.*]+)*: ")
# A list or table right below a line of text, which Markdown takes for more of that text.
_ITEM = re.compile(r"^[ \t]*(?:- |\|)")
_FENCE = re.compile(r"^[ \t]*```")


class ReadableDocstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            text = _ONE_LINE.sub(_one_line, _with_lists(obj.docstring.value))
            obj.docstring.value = _BLOCK.sub(_block, text)


def _one_line(match: re.Match) -> str:
    name, text = match.groups()
    first, _, rest = text.partition("\n")
    if re.fullmatch(_NAMES, name) and _NAMED.match(text):
        return f"\n{name}:\n    {first}\n{textwrap.indent(rest, '    ')}\n"
    return f"\n**{name}:** {first}\n{textwrap.dedent(rest)}\n"


def _block(match: re.Match) -> str:
    text = textwrap.dedent(match[2]).strip()
    apart = "\n\n" if _ITEM.match(text) else " "
    return f"\n**{match[1]}:**{apart}{text}\n"


def _with_lists(text: str) -> str:
    """The text with an empty line before each list and table."""
    lines, in_code, in_item = [], False, False
    for line in text.split("\n"):
        in_code ^= bool(_FENCE.match(line))
        begins = bool(_ITEM.match(line)) and not in_code
        if begins and not in_item and lines and lines[-1].strip():
            lines.append("")
        # Lines of an item are indented deeper than its dash; an empty line ends nothing.
        if begins:
            indent = len(line) - len(line.lstrip())
            in_item = True
        elif line.strip() and in_item:
            in_item = len(line) - len(line.lstrip()) > indent
        lines.append(line)
    return "\n".join(lines)
