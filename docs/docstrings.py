"""For mkdocstrings: this package's one-line sections as the blocks that Google's style knows."""

import re
import textwrap

import griffe

# "Returns: a map" and what follows, indented deeper, until the next line at the left.
_SECTION = re.compile(
    r"^(Args|Inputs|Gives|Returns|Raises|Source|Warns|Yields): (\S.*(?:\n[ \t]+\S.*)*)",
    flags=re.MULTILINE,
)


class OneLineSections(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = _SECTION.sub(_as_paragraph, obj.docstring.value)


def _as_paragraph(match: re.Match) -> str:
    name, text = match.groups()
    first, _, rest = text.partition("\n")
    return f"\n**{name}:** {first}\n{textwrap.dedent(rest)}\n"
