"""The HTTP API of the service under /api."""
