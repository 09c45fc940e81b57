"""Networks as files for other runtimes, checked in that runtime before they appear.

What a file needs and gives stands in a JSON file beside it, so that it can be run without this
package.
"""

from keras_dpt.export.exporter import export_model
from keras_dpt.export.formats import FORMATS
from keras_dpt.export.runtimes import load_exported

__all__ = ["FORMATS", "export_model", "load_exported"]
