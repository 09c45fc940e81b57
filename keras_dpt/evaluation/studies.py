"""The paper's studies on any data: resolution, readout, taps, encoders and cost.

Each returns a `Study`: a table with a row per variant. Figure 4 needs a trained model; Tables 6 to
8 train small variants from random weights, for as many epochs as asked, with `model.fit`.
"""

import copy
import json
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from keras_dpt import presets
from keras_dpt.encoders import ENCODERS
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.evaluate import evaluate
from keras_dpt.evaluation.protocols import METRICS, get_protocol
from keras_dpt.evaluation.provenance import versions
from keras_dpt.files import written_whole
from keras_dpt.models.tasks import task_named
from keras_dpt.ops.sides import one_size_only
from keras_dpt.ops.training import check_training

RESOLUTIONS = (1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True, eq=False)
class Study:
    """The result of a study.

    Attributes:
        name: "resolution", "readout", "taps", "encoders" or "cost".
        source: the figure or table of the paper that it repeats.
        rows: one dict per variant: `variant`, its name, and numbers or words.
        about: further conditions of the numbers.
    """

    name: str
    source: str
    rows: list[dict]
    about: dict = field(default_factory=dict)

    def markdown(self) -> str:
        """The rows as a Markdown table."""
        columns = list(self.rows[0])
        lines = ["| " + " | ".join(columns) + " |"]
        lines.append("|---" + "|---:" * (len(columns) - 1) + "|")
        for row in self.rows:
            lines.append("| " + " | ".join(_cell(row[name]) for name in columns) + " |")
        return "\n".join(lines) + "\n"

    def save(self, path) -> None:
        """Write a JSON file with everything. Raises EvaluationError if it cannot."""
        data = {"study": self.name, "source": self.source, "rows": self.rows, "about": self.about}
        with written_whole(Path(path), EvaluationError) as file:
            file.write(json.dumps(data, indent=1, allow_nan=False).encode("utf-8"))


def resolution_study(
    model, source, protocol, factors=RESOLUTIONS, limit=None, batch_size=4, progress=False
) -> Study:
    """Evaluate a model on larger images than it was trained on: Figure 4.

    Args:
        model: a trained task; the size of its preprocessor is factor 1, and restored afterwards.
        source, protocol, limit, batch_size, progress: as in `evaluate`; a `limit` or other images
            than the protocol's are allowed, because only the change matters.
        factors: of both sides, rounded to multiples of the model's `size_multiple`.

    Returns: a `Study`; `change` is the loss of the first metric compared with factor 1, in percent
        (negative: better).
    Raises: EvaluationError: (a ValueError) the model does not resize images, or takes one size
        only.
    """
    protocol = get_protocol(protocol)
    size = model.preprocessor.image_size
    if size is None:
        raise EvaluationError(
            "This preset does not resize images, so it has no resolution to compare with."
        )
    if None not in (fixed := model.backbone.input.shape[1:3]):
        raise EvaluationError(
            f"{one_size_only('This network', fixed)} There is no other resolution to compare with."
        )
    rows, first, multiple = [], None, model.backbone.size_multiple
    try:
        for factor in factors:
            target = tuple(
                max(multiple, multiple * round(factor * side / multiple)) for side in size
            )
            model.preprocessor.image_size = target
            result = evaluate(
                model,
                source,
                protocol,
                limit=limit,
                unnamed=True,
                batch_size=batch_size,
                progress=progress,
            )
            metrics = {name: result.metrics[name] for name in protocol.metrics[:3]}
            main = metrics[protocol.metrics[0]]
            first = main if first is None else first
            sign = 1 if METRICS[protocol.metrics[0]][1] else -1
            row = {"variant": f"{factor:g}x", "factor": factor, "image": "x".join(map(str, target))}
            rows.append(row | metrics | {"change": 100 * sign * (main / first - 1)})
    finally:
        model.preprocessor.image_size = size
    about = {"protocol": protocol.name, "data": source.name, "images": len(result.records)}
    return Study("resolution", "Ranftl et al. 2021, Figure 4", rows, about | _environment())


_HYBRID = ("ViTHybridEncoder", "EfficientNetHybridEncoder")
_WITH_TOKENS = ("ViTEncoder", *_HYBRID, "BEiTEncoder", "DINOv2Encoder")


def _config_of(preset, *encoders):
    """Arguments of a preset's encoder. Raises: EvaluationError: it is not one of these."""
    encoder = preset["architecture"]["encoder"]
    if encoder not in encoders:
        raise EvaluationError(
            f"This study is for presets on {', '.join(encoders)}. Received: {preset['name']!r} on "
            f"{encoder}."
        )
    return preset["architecture"]["encoder_config"]


def readout_variants(preset: dict) -> dict[str, dict]:
    """Presets with the three readouts of Table 7, by name."""
    _config_of(preset, *_WITH_TOKENS)
    return {
        mode: _changed(preset, backbone_config={"readout": mode})
        for mode in ("ignore", "add", "project")
    }


def taps_variants(preset: dict) -> dict[str, dict]:
    """Presets that tap other blocks, as in Table 6, by name.

    Blocks only, evenly spread or the last four; for encoders with convolutional stages also the
    paper's choice of two stages and two blocks.
    """
    config = _config_of(preset, *_WITH_TOKENS)
    layers = config["num_layers"]
    hybrid = "out_stages" in config
    even = [round((i + 1) * layers / 4) - 1 for i in range(4)]
    choices = {tuple(even): None, tuple(range(layers - 4, layers)): None}
    later = [layers // 2 - 1 + round((i + 1) * (layers - layers // 2) / 4) for i in range(4)]
    if len(set(later)) == 4:
        choices[tuple(later)] = None
    variants = {}
    for blocks in choices:
        stages = {"out_stages": []} if hybrid else {}
        name = "blocks " + ", ".join(str(block + 1) for block in blocks)
        variants[name] = _tapped(preset, list(blocks), stages)
    if hybrid:
        for blocks in ([layers // 2 - 1, layers - 1], [layers - 2, layers - 1]):
            name = "stages 1, 2, blocks " + ", ".join(str(block + 1) for block in blocks)
            variants[name] = _tapped(preset, blocks, {"out_stages": [0, 1]})
    return variants


def encoder_variants(preset: dict) -> dict[str, dict]:
    """Presets with a plain and a hybrid encoder around the same transformer, as in Table 8."""
    config = _config_of(preset, "ViTEncoder", *_HYBRID)
    layers = config["num_layers"]
    shared = {
        key: config[key]
        for key in ("num_layers", "hidden_dim", "num_heads", "mlp_dim", "position_grid")
    }
    plain = {"out_indices": [round((i + 1) * layers / 4) - 1 for i in range(4)], "patch_size": 16}
    taps = {"out_indices": [layers // 2 - 1, layers - 1], "out_stages": [0, 1]}
    name = preset["architecture"]["encoder"]
    if name == "ViTEncoder":
        name, taps = "ViTHybridEncoder", taps | {"stage_channels": [256, 512, 1024]}
        hybrid = shared | taps
    else:
        hybrid = config | taps
    variants = {}
    for encoder, own in (("ViTEncoder", shared | plain), (name, hybrid)):
        widths = _widths(preset, encoder, own)
        variants[encoder] = _changed(preset, backbone_config={"reassemble_channels": widths})
        variants[encoder]["architecture"] |= {"encoder": encoder, "encoder_config": own}
    return variants


VARIANTS = {
    "readout": (readout_variants, "Ranftl et al. 2021, Table 7"),
    "taps": (taps_variants, "Ranftl et al. 2021, Table 6"),
    "encoders": (encoder_variants, "Ranftl et al. 2021, Table 8"),
}


def training_study(
    name,
    preset,
    train,
    val,
    protocol,
    epochs=3,
    batch_size=8,
    learning_rate=5e-4,
    limit=None,
    seed=0,
    dtype=None,
    verbose=2,
) -> Study:
    """Train each variant of a preset from random weights and evaluate it: Tables 6 to 8.

    Args:
        name: "readout", "taps" or "encoders".
        preset: name of the preset to vary, or a dict as of `keras_dpt.presets.read_preset`.
        train, val: `keras_dpt.datasets.Source`s for training and evaluation.
        protocol, limit: as in `evaluate`.
        epochs, batch_size, learning_rate: of the training: Adam, the task's own loss and
            augmentation, the preset's image size. A few epochs rank variants only roughly.
        seed: of weights and batches; the same for every variant.
        dtype: policy of all layers, such as "mixed_bfloat16".
        verbose: as in `keras.Model.fit`.

    Returns: a `Study` with parameters, metrics and seconds of training of each variant.
    Raises: EvaluationError: (a ValueError) an unknown study; what `evaluate` raises.
        TrainingError: the backend does not train.
    """
    if name not in VARIANTS:
        raise EvaluationError(f"`name` must be one of {', '.join(VARIANTS)}. Received: {name!r}.")
    check_training("This study")
    protocol = get_protocol(protocol)
    make_variants, reference = VARIANTS[name]
    preset = presets.read_preset(preset) if isinstance(preset, str) else preset
    rows = []
    for variant, config in make_variants(preset).items():
        keras.utils.set_random_seed(seed)
        model = task_named(config["task"]).from_architecture(config, dtype=dtype)
        started = time.perf_counter()
        _train(model, train, epochs, batch_size, learning_rate, seed, verbose)
        seconds = time.perf_counter() - started
        result = evaluate(model, val, protocol, limit=limit, unnamed=True)
        rows.append(
            {"variant": variant, "parameters": int(model.count_params())}
            | {metric: result.metrics[metric] for metric in protocol.metrics[:3]}
            | {"train_seconds": round(seconds, 1)}
        )
        keras.backend.clear_session()
    about = {"preset": preset["name"], "protocol": protocol.name, "train": train.name}
    about |= {"train_images": len(train), "val": val.name, "val_images": len(result.records)}
    about |= {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    about |= {"seed": seed, "dtype": dtype}
    return Study(name, reference, rows, about | _environment())


def cost_study(names, image_size=(384, 384), repeats=10, dtype=None) -> Study:
    """Parameters and time per image of each preset: Table 9.

    Weights are random, which affects neither, so nothing is downloaded.

    Args:
        names: of presets.
        image_size: `(height, width)`, the same for all, rounded to multiples of each model's
            `size_multiple`.
        repeats: number of timed images, after two for warm-up.
        dtype: policy of all layers.

    Raises: EvaluationError: (a ValueError) a preset takes images of another size only.
    Returns: a `Study`; `median_ms` and `fastest_ms` are of the compiled network only, one image at
        a time, with the output on the host.
    """
    rows = []
    for name in names:
        config = presets.read_preset(name)
        model = task_named(config["task"]).from_architecture(config, dtype=dtype)
        multiple, fixed = model.backbone.size_multiple, model.backbone.image_encoder.fixed_size
        size = [max(multiple, multiple * round(side / multiple)) for side in image_size]
        if fixed is not None and tuple(size) != tuple(fixed):
            raise EvaluationError(
                f"{one_size_only(name, fixed)} Received: image_size={tuple(image_size)}. Compare "
                "it at its own size, or omit it."
            )
        image = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype("float32")
        times = []
        for _ in range(repeats + 2):
            started = time.perf_counter()
            # Not the task's own `predict`, which would preprocess.
            keras.Model.predict_on_batch(model, image)
            times.append(1000 * (time.perf_counter() - started))
        rows.append(
            {
                "variant": name,
                "parameters": int(model.count_params()),
                "median_ms": round(statistics.median(times[2:]), 1),
                "fastest_ms": round(min(times[2:]), 1),
            }
        )
        keras.backend.clear_session()
    about = {"image": "x".join(map(str, image_size)), "repeats": repeats, "dtype": dtype}
    return Study("cost", "Ranftl et al. 2021, Table 9", rows, about | _environment())


def plot(study: Study, path) -> None:
    """Draw a study as a PNG: lines for resolutions, bars for variants.

    Raises: EvaluationError: (a ValueError) the file cannot be written.
    """
    from matplotlib.figure import Figure  # late: only pictures need it

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{study.name}: {study.about.get('data') or study.about.get('val') or ''}")
    draw = _plot_resolutions if study.name == "resolution" else _plot_variants
    draw(axes, study)
    with written_whole(Path(path), EvaluationError) as file:
        figure.savefig(file, format="png", dpi=130)


def _plot_resolutions(axes, study):
    factors = [row["factor"] for row in study.rows]
    main = next(name for name in study.rows[0] if name in METRICS)
    axes.axhline(0, color="#b8c4cc", linewidth=1)
    axes.plot(factors, [row["change"] for row in study.rows], "o-", color="#2f6f8f")
    for row in study.rows:
        axes.annotate(
            f"{row[main]:.3f}",
            (row["factor"], row["change"]),
            textcoords="offset points",
            xytext=(0, 8),
            ha="center",
            fontsize=8,
        )
    axes.margins(y=0.2)
    axes.set_xlabel("image size, relative to the preset's")
    axes.set_ylabel(f"{METRICS[main][0]}: loss against 1x (%)")


def _plot_variants(axes, study):
    shown = [name for name in study.rows[0] if name in METRICS or name == "median_ms"][0]
    names = [row["variant"] for row in study.rows][::-1]
    values = [row[shown] for row in study.rows][::-1]
    bars = axes.barh(names, values, color="#9ab7c6")
    axes.bar_label(bars, fmt="%.3f" if shown in METRICS else "%.0f", padding=4)
    axes.margins(x=0.15)
    axes.set_xlabel(METRICS[shown][0] if shown in METRICS else "median ms per image")


def _train(model, source, epochs, batch_size, learning_rate, seed, verbose):
    from keras_dpt.datasets import Batches
    from keras_dpt.training import lift_outputs, linear_head

    size = tuple(model.preprocessor.image_size)
    batch_size = min(batch_size, len(source))
    data = Batches(source, size, batch_size, target=model.learns, seed=seed)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate, clipnorm=1.0), metrics=None)
    with ExitStack() as stack:
        if model.learns == "inverse_depth":
            stack.enter_context(linear_head(model))
        model.fit(data, epochs=epochs, verbose=verbose)
        if model.learns == "inverse_depth":
            lift_outputs(model, [source[i].image for i in range(min(len(source), 64))])


def _changed(preset, **configs):
    changed = copy.deepcopy(preset)
    for name, values in configs.items():
        changed["architecture"][name] |= values
    return changed


def _tapped(preset, blocks, stages):
    """The preset with other taps; maps of transformer blocks keep the preset's narrow widths."""
    architecture = preset["architecture"]
    config = architecture["encoder_config"] | {"out_indices": blocks} | stages
    return _changed(
        preset,
        encoder_config=config,
        backbone_config={"reassemble_channels": _widths(preset, architecture["encoder"], config)},
    )


def _widths(preset, encoder, config):
    """The preset's `reassemble_channels`, with this encoder's own for tapped stages."""
    widths = list(preset["architecture"]["backbone_config"]["reassemble_channels"])
    for stage in config.get("out_stages", ()):
        widths[stage] = ENCODERS[encoder].stage_widths(config)[stage]
    return widths


def _environment():
    return {"backend": keras.backend.backend(), "versions": versions()}


def _cell(value):
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
