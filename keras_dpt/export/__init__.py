"""Export to other runtimes. Each file is checked in its runtime before it appears.

A JSON file next to it describes inputs and outputs, so that it can be run without this package.
"""

from keras_dpt.export.exporter import export_model
from keras_dpt.export.formats import FORMATS
from keras_dpt.export.runtimes import load_exported

__all__ = ["FORMATS", "export_model", "load_exported"]
