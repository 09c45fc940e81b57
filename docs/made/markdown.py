"""Small pieces of Markdown."""


def table(header, rows):
    """A table of strings; bars and line breaks inside cells are kept from ending them.

    Args:
        header: headings of the columns.
        rows: a list of rows, each with as many cells as there are headings.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def code(text, language=""):
    """A block of code."""
    return f"```{language}\n{text.strip()}\n```\n"


def note(title, text):
    """A box that opens when it is clicked; `text` may be any Markdown."""
    inside = "\n".join(f"    {line}".rstrip() for line in text.strip().splitlines())
    return f'??? note "{title}"\n\n{inside}\n'


def _cell(text):
    return " ".join(str(text).split("\n")).replace("|", "\\|")
