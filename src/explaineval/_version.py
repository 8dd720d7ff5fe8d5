"""The version, apart from the package's root so that anything may import it."""

__version__ = "0.3.0"
