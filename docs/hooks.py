"""For mkdocs: the first page is the README, and files of the repository are linked where it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def on_page_markdown(markdown, page, config, files):
    """Put the README in the place of `{{ README }}`, with links that hold on the site."""
    if "{{ README }}" not in markdown:
        return markdown
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    return markdown.replace(
        "{{ README }}", re.sub(r"\[([^\]]+)\]\(((?!\w+:|#)[^)]+)\)", _linker(config), readme)
    )


def _linker(config):
    """A function of a Markdown link's match: files that the site lacks are linked on GitHub."""

    def link(match):
        text, target = match.groups()
        if (ROOT / "docs" / target).exists():
            return match[0]
        return f"[{text}]({config.repo_url}/blob/main/{target})" if config.repo_url else text

    return link
