"""Where requests may go and how much may come back: the guard under all HTTP clients, and the built-in addresses."""

from __future__ import annotations
