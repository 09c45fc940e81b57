"""Schemas of Hugging Face's JSON files next to weights, for the keys that conversion reads."""

from keras_dpt.schema import Either, FileName, Flag, ListOf, MapOf, Real, Record, Text, Whole

_SIDE = Whole(1, 16384)
_COUNT = Either(None, Whole(1, 65536))
_FLAG = Either(None, Flag())

CONFIG = Record(
    {
        "model_type": Text(100),
        "num_attention_heads": _COUNT,
        "layer_norm_eps": Real(0, 1, above=True),
        "readout_type": Text(100),
        "backbone_out_indices": Either(None, ListOf(Whole(0, 999), 1, 16)),
        "neck_ignore_stages": ListOf(Whole(0, 999), 0, 16),
        "backbone_config": Either(None, Record({"num_groups": Whole(1, 65536)})),
        "id2label": MapOf(Text(1000)),
    }
)
PREPROCESSOR = Record(
    {
        "size": Either(
            None,
            _SIDE,
            ListOf(_SIDE, 2, 2),
            Record({"height": _SIDE, "width": _SIDE}, required=("height", "width")),
        ),
        "do_normalize": _FLAG,
        "keep_aspect_ratio": _FLAG,
        "ensure_multiple_of": Either(None, Whole(1, 1024)),
        "resample": Either(None, Whole(0, 10)),
        "image_mean": Either(Real(-1e4, 1e4), ListOf(Real(-1e4, 1e4), 3, 3)),
        "image_std": Either(Real(0, 1e4, above=True), ListOf(Real(0, 1e4, above=True), 3, 3)),
    }
)
INDEX = Record({"weight_map": MapOf(FileName())}, required=("weight_map",))
BESIDE_WEIGHTS = {"config.json": CONFIG, "preprocessor_config.json": PREPROCESSOR}
