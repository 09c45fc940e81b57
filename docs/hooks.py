"""For mkdocs: pages made of the repository's own documents, and links to files outside the site."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Documents at the top of the repository that are pages of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?!\w+:|#)[^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    """Fill in `{{ NAME.md }}`; make links that hold in the repository hold on the site."""
    here = posixpath.dirname(page.file.src_uri)
    folder = posixpath.join("docs", here)
    if match := re.fullmatch(r"\{\{ (\w+\.md) \}\}\s*", markdown):
        markdown, folder = (ROOT / match[1]).read_text(encoding="utf-8"), ""
    return _LINK.sub(lambda m: _link(m, folder, here, config.repo_url), markdown)


def _link(match, folder, here, repo_url):
    """A Markdown link of a document in `folder`, for the page in the site's folder `here`."""
    text, target, anchor = match[1], match[2], match[3] or ""
    path = posixpath.normpath(posixpath.join(folder, target))
    if path in PAGES:
        path = f"docs/{PAGES[path]}"
    if path.startswith("docs/"):
        address = posixpath.relpath(path.removeprefix("docs/"), here or ".")
        return f"[{text}]({address}{anchor})"
    # A file of the repository that the site lacks.
    return f"[{text}]({repo_url.rstrip('/')}/blob/main/{path})" if repo_url else text
