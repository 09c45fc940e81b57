"""Networks as files for other runtimes, checked in that runtime before they appear.

A JSON file next to each describes what the file takes and returns, so that it can be run without
this package.
"""

from keras_dpt.export.exporter import export_model
from keras_dpt.export.formats import FORMATS
from keras_dpt.export.runtimes import load_exported

__all__ = ["FORMATS", "export_model", "load_exported"]
