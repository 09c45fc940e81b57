"""The table of measured differences: JSON at `KERAS_DPT_PARITY_REPORT`, Markdown beside it."""

import json
import os
from pathlib import Path


def record(model, size, backend, differences):
    """Add one row to the report, if one is asked for; a row measured before is replaced.

    Args: model: its name. size: (height, width). backend: Keras's. differences: column -> (max,
        rms), both in units of the output's standard deviation.
    """
    if "KERAS_DPT_PARITY_REPORT" not in os.environ:
        return
    path = Path(os.environ["KERAS_DPT_PARITY_REPORT"])
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    row = {name: dict(zip(("max", "rms"), pair, strict=True)) for name, pair in differences.items()}
    rows[f"{model} | {size[0]} x {size[1]} | {backend}"] = row
    _write(path, json.dumps(rows, indent=1))
    _write(path.with_suffix(".md"), _table(rows))


def _table(rows):
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| model | height x width | backend | {' | '.join(columns)} |"]
    lines.append("|---" * (3 + len(columns)) + "|")
    for name, row in rows.items():
        cells = [f"{row[c]['max']:.1e} / {row[c]['rms']:.1e}" if c in row else "" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "max / rms, in units of the output's standard deviation", ""])


def _write(path, text):
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
