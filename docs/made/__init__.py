"""Pages of the site that are made from data and code when it is built; mkdocs does not copy them.

`docs/hooks.py` asks for them: `pages()` are whole pages, `models_navigation()` is their place in
the menu, `drawing()` a part of the page about the architecture.
"""

from made.architecture import drawing
from made.cards import card
from made.commands import commands_page
from made.models import models_navigation, models_page
from made.protocols import protocols_page
from made.scores import read_scores

__all__ = ["drawing", "models_navigation", "pages"]


def pages(root):
    """The generated pages of a checkout as a dict: address below `docs/`, Markdown.

    Args: root: folder of the checkout, whose documents hold the tables of scores.
    """
    from keras_dpt.presets import preset_names, read_preset

    presets = [read_preset(name) for name in preset_names()]
    scores = read_scores(root)
    cards = {f"models/{p['name']}.md": card(p, scores.get(p["name"], [])) for p in presets}
    return cards | {
        "models/index.md": models_page(presets),
        "reference/commands.md": commands_page(),
        "reference/protocols.md": protocols_page(),
    }
