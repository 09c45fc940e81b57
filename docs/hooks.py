"""For mkdocs: pages made from data, code and documents of the repository; links out of the site."""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
# The pages describe this checkout, whatever is installed; mkdocs lends us docs/ while it loads us.
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from keras_dpt.logs import quiet_frameworks  # noqa: E402

quiet_frameworks()  # before `made`, whose protocols import Keras

from made import drawing, models_navigation, pages  # noqa: E402

from keras_dpt.presets import preset_names, read_preset  # noqa: E402

# Documents at the top of the repository that are pages of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?!\w+:|#)[^)#]+)(#[^)]*)?\)")


def on_config(config):
    """Put the model cards into the menu, below "Model cards"."""
    presets = [read_preset(name) for name in preset_names()]
    for entry in config.nav:
        if "Model cards" in entry:
            entry["Model cards"] = models_navigation(presets)
    return config


def on_files(files, config):
    """Add the pages made from data and code."""
    for address, markdown in pages(ROOT).items():
        files.append(File.generated(config, address, content=markdown))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fill in documents and the drawing; links that hold in the repository hold here, too."""
    here = posixpath.dirname(page.file.src_uri)
    folder = posixpath.join("docs", here)
    if match := re.fullmatch(r"\{\{ (\w+\.md) \}\}\s*", markdown):
        markdown, folder = (ROOT / match[1]).read_text(encoding="utf-8"), ""
    markdown = markdown.replace("{{ ARCHITECTURE }}", drawing())
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
