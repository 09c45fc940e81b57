"""Model cards say what the JSON says; what no licence allows is not to be uploaded."""

import json

import pytest

from keras_dpt.cards import hub_license, model_card, why_not_redistributed
from keras_dpt.presets import preset_names, read_preset


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_has_a_card(name):
    preset = read_preset(name)
    card = model_card(preset)
    for text in (
        f"# {name}",
        preset["description"],
        preset["weights_license"],
        preset["license_evidence"],
        preset["training_data"],
        f"{preset['parameters']:,}",
        *preset["notes"],
    ):
        assert text in card
    for source in preset["sources"]:
        assert source.get("url", source.get("repo")) in card
    assert "None" not in card and "\n\n\n" not in card
    assert ("Only the encoder" in card) == (preset["weights"] == "encoder_only")


def front_matter(card):
    lines = card.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def test_what_the_hub_reads():
    fields = front_matter(model_card(read_preset("dpt_hybrid")))
    assert fields["license"] == "mit" and fields["pipeline_tag"] == "depth-estimation"
    assert fields["library_name"] == "keras-hub"
    fields = front_matter(model_card(read_preset("dpt_hybrid_ade20k")))
    assert fields["pipeline_tag"] == "image-segmentation"
    assert not model_card(read_preset("dpt_hybrid"), front_matter=False).startswith("---")


def test_parity_is_a_table():
    preset = read_preset("dpt_hybrid")
    figures = preset["parity"]["height x width"]["384 x 384"]
    assert f"| 384 x 384 | {figures['max']:.1e} | {figures['rms']:.1e} |" in model_card(preset)
    assert "## Parity" not in model_card(preset | {"parity": {}})


def test_of_a_converted_folder():
    facts = {
        "preset": None,
        "task": "depth",
        "output": {"kind": "metric_depth", "unit": "m"},
        "parameters": 12345,
        "source": {"address": "weights.pt", "format": "isl_org", "sha256": "ab" * 32},
        "weights_license": None,
    }
    card = model_card(facts, "hf://user/repository")
    assert "ab" * 32 in card and "12,345" in card and "metres" in card
    assert 'DPTDepth.from_preset("hf://user/repository")' in card
    assert "## Licence" not in card and front_matter(card)["license"] == "other"


def test_what_may_be_redistributed():
    stated = {name: read_preset(name)["weights_license"] for name in preset_names()}
    refused = {name for name in stated if why_not_redistributed(read_preset(name))}
    assert refused == {name for name, text in stated.items() if text == "unclear"}
    assert "depth_anything_v2_metric_indoor_base" in refused
    assert "'unclear'" in why_not_redistributed(read_preset("depth_anything_v2_metric_indoor_base"))
    assert hub_license(read_preset("depth_anything_v2_base")) == "cc-by-nc-4.0"
    assert "not known" in why_not_redistributed({"weights_license": None})
