"""The site: pages made from data hold all of it; it builds without a warning; links are whole."""

import argparse
import html.parser
import os
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from snippets import python_blocks, run_blocks

from keras_dpt import cli
from keras_dpt.presets import preset_names, read_preset

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made():
    """The package `made` of docs/."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import made

        yield made
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def pages(made):
    return made.pages(ROOT)


@pytest.mark.parametrize("name", preset_names())
def test_a_card_holds_what_the_preset_says(name, pages):
    preset, card = read_preset(name), pages[f"models/{name}.md"]
    facts = [preset["description"], preset["license_evidence"], preset["training_data"]]
    facts += [preset["weights_license"], f"{preset['parameters']:,}", *preset["notes"]]
    facts += preset["output"].get("class_names", [])
    for source in preset["sources"]:
        facts += [source.get("sha256") or source.get("sha256_prefix") or "not known"]
        facts += [source.get("repo") or source["url"]]
    assert not [fact for fact in facts if fact not in card]
    assert "{{" not in card and "None" not in card.partition("## Architecture")[0]
    assert ("official file:** not yet" in card) == bool(preset["sources"])
    (snippet,) = python_blocks(card)
    compile(snippet, name, "exec")
    assert f'from_preset("{name}")' in snippet


def test_cards_quote_the_scores(pages):
    assert "| nyuv2_val | 329 | 0.127 |" in pages["models/dpt_mini_nyuv2.md"]
    assert "## Scores" not in pages["models/dpt_large.md"]


# Those whose weights the folder of the test has, one for each kind of output.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpt_hybrid", "dpt_hybrid_nyu", "dpt_mini_camvid"])
def test_snippets_of_cards_run(name, pages, workplace):
    run_blocks(python_blocks(pages[f"models/{name}.md"]), name)


def test_every_preset_is_in_the_table_and_in_the_menu(made, pages):
    presets = [read_preset(name) for name in preset_names()]
    first, *families = made.models_navigation(presets)
    assert first == "models/index.md"
    menu = [card for family in families for group in family.values() for card in group]
    assert sorted(name for card in menu for name in card) == preset_names()
    table = re.findall(r"^\| \[`(\w+)`\]", pages["models/index.md"], re.MULTILINE)
    assert sorted(table) == preset_names()


def sections(page):
    """Heading of each section of a page: its text."""
    parts = re.split(r"^##+ (.*?)(?: \{.*\})?$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_reference_of_the_command_has_each_option_and_default(pages):
    found, pending, count = sections(pages["reference/commands.md"]), [cli._parser()], 0
    while pending:
        parser = pending.pop()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                pending += action.choices.values()
            elif parser.prog != "keras-dpt" and not isinstance(action, argparse._HelpAction):
                count += 1
                for option in action.option_strings:
                    assert f"`{option}`" in found[parser.prog], (parser.prog, option)
                if isinstance(action.default, str | int) and action.default not in (
                    False,
                    "==SUPPRESS==",
                ):
                    assert f"`{action.default}`" in found[parser.prog], (parser.prog, action.dest)
    assert count > 60


def test_the_table_of_protocols_has_them_all(pages):
    from keras_dpt.evaluation import PROTOCOLS

    page = pages["reference/protocols.md"]
    first = page.partition("## Data and source")[0]
    assert set(re.findall(r"^\| `(\w+)`", first, re.MULTILINE)) == set(PROTOCOLS)
    assert "| `nyu_eigen` | nyuv2/test | 654 | `eigen_nyu` | 10 m | none | per image |" in first
    assert not [p.name for p in PROTOCOLS.values() if p.data not in page or p.reference not in page]


@pytest.mark.slow
def test_shapes_of_the_drawing_are_the_networks(made):
    import keras

    import keras_dpt

    drawn = made.architecture
    model = keras_dpt.DPTDepth.from_preset("dpt_base", load_weights=False)
    backbone, steps = model.backbone, ("read", "reassemble", "fusion_input", "fusion")
    names = [f"{step}_{n}" for step in steps for n in (4, 3, 2, 1)]
    inside = keras.Model(backbone.input, {n: backbone.get_layer(n).output for n in names})
    image = keras.KerasTensor((1, *drawn.IMAGE))
    found = {name: x.shape[1:] for name, x in inside.compute_output_spec(image).items()}
    for row, n in enumerate((4, 3, 2, 1)):
        assert found[f"read_{n}"] == drawn.READ
        assert found[f"reassemble_{n}"] == drawn.REASSEMBLED[row]
        assert found[f"fusion_input_{n}"] == (*drawn.REASSEMBLED[row][:2], drawn.FUSION_CHANNELS)
        assert found[f"fusion_{n}"] == drawn.FUSED[row]
    assert model.compute_output_spec(image).shape[1:] == drawn.DEPTH
    (tap, *_) = backbone.image_encoder.taps
    assert (drawn.READ[0] * drawn.READ[1] + tap.num_prefix_tokens, tap.channels) == drawn.TOKENS
    lasts = [f"blocks {i - 1} to {i + 1}" for i in backbone.image_encoder.out_indices]
    assert lasts == list(drawn.BLOCKS[::-1])
    assert drawn.drawing().count("<a href=") == 24


class Page(html.parser.HTMLParser):
    """Links, places to link to, and what is loaded, of a page of HTML."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.loaded = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes.get("id"), attributes.get("name")}
        address = attributes.get("href") or attributes.get("src")
        if tag in ("a", "img") and address:
            self.links.append(address)
        if tag in ("script", "link", "img", "iframe") and address:
            self.loaded.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: a dict of file: `Page`."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return {path: Page(path) for path in folder.rglob("*.html")}


@pytest.mark.slow
def test_site_loads_nothing_from_elsewhere(site, pages):
    assert len(site) > len(pages)
    for path, page in site.items():
        assert path.name != "architecture.html" or "<svg viewBox" in path.read_text("utf-8")
        assert "{{" not in path.read_text(encoding="utf-8"), path.name
        assert not [address for address in page.loaded if address.startswith("http")], path.name
    first = min((path for path in site if path.name == "index.html"), key=lambda p: len(p.parts))
    assert "Dense Prediction Transformer" in first.read_text(encoding="utf-8")


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(site):
    lost = []
    for path, page in site.items():
        for link in page.links:
            address = urllib.parse.urlsplit(link)
            if address.scheme or address.netloc or path.name == "404.html":
                continue
            target = path
            if address.path:
                target = (path.parent / urllib.parse.unquote(address.path)).resolve()
                target = target / "index.html" if target.is_dir() else target
            place = urllib.parse.unquote(address.fragment)
            if not target.is_file() or (place and target in site and place not in site[target].ids):
                lost.append((path.name, link))
    assert not lost


@pytest.mark.slow
def test_docstrings_are_laid_out(site):
    reference = [path for path in site if path.parent.name == "api"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in reference}
    assert len(texts) > 9
    for name, text in texts.items():
        text = text[text.index("<article") : text.index("</article>")]
        assert not re.findall(r'<li class="doc-section-item[^>]*>\s*–', text), f"dash in {name}"
        assert not re.findall(r"<p>[^<]*\n- ", text), f"list in a paragraph of {name}"
        assert not re.findall(r"<p>\|", text), f"table in a paragraph of {name}"
        assert '<details class="' not in text, f"box around a section of {name}"
    # A list inside the description of an argument.
    assert re.search(r"<li>\s*(<p>)?a name from", texts["models.html"])
    assert "<td>mean abs(p - t) / t</td>" in texts["evaluation.html"]
