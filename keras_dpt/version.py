"""The version of this package, alone here so that the build can read it without imports."""

__version__ = "0.1.0"
