"""Classes that files name are known to Keras as soon as this package and Keras are both imported.

Keras loads a file by the names in it, such as `keras_dpt>DPTDepth`, and knows those whose modules
were imported. `import keras_dpt` alone imports none of them, as they need Keras. So they follow
when Keras is imported, whoever does it: at once where Keras is there already, else after it.

Python offers a place for this: finders of `sys.meta_path` are asked for each module. The one here
watches a few names and has their loaders say when they are done. It waits until the outermost of
them is done, as nothing can be built on modules that are half imported, then leaves.
"""

import sys
import threading
from importlib import import_module

# The modules whose classes and functions are registered.
MODULES = (
    "encoders.beit",
    "encoders.dinov2",
    "encoders.efficientnet_hybrid",
    "encoders.efficientnet_lite",
    "encoders.keras_hub_backbone",
    "encoders.resnet",
    "encoders.swin",
    "encoders.vit",
    "encoders.vit_hybrid",
    "layers.beit",
    "layers.dinov2",
    "layers.efficientnet",
    "layers.feature_fusion",
    "layers.heads",
    "layers.initializers",
    "layers.outputs",
    "layers.readout",
    "layers.reassemble",
    "layers.resnet",
    "layers.resnet_v2",
    "layers.swin",
    "layers.tokens",
    "layers.transformer",
    "layers.window_attention",
    "losses.depth",
    "losses.segmentation",
    "metrics.depth",
    "metrics.segmentation",
    "models.backbone",
    "models.decoder",
    "models.depth",
    "models.image_converter",
    "models.preprocessor",
    "models.segmentation",
    "optimizers",
    "rate_groups",
)
_PACKAGE = __name__.partition(".")[0]
_WATCHED = (_PACKAGE, "keras", "keras_hub", "tensorflow")


def when_keras_is_imported() -> None:
    """Import the modules that register classes: now, or when somebody has imported Keras."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _Watch())


def _register():
    for module in MODULES:
        import_module(f"{_PACKAGE}.{module}")


class _Watch:
    """A finder that finds nothing by itself."""

    def __init__(self):
        self.here = threading.local()  # imports run in all threads

    def find_spec(self, name, path=None, target=None):
        top, _, inside = name.partition(".")
        if top not in _WATCHED or (inside and top != _PACKAGE):
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)):
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None

    def begin(self):
        self.here.depth = getattr(self.here, "depth", 0) + 1

    def end(self):
        self.here.depth -= 1
        if not self.here.depth and "keras" in sys.modules and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()


class _Loader:
    """A module's own loader, and a word to the watch when it begins and when it is done."""

    def __init__(self, loader, watch):
        self.loader, self.watch = loader, watch

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.watch.begin()
        try:
            self.loader.exec_module(module)
        finally:
            self.watch.end()
