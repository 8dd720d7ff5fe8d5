"""The cache of paid answers: never lost, never bought twice, never mixed up. Only it imports diskcache."""

from __future__ import annotations

from explaineval.cache.disks import MAX_BYTES
from explaineval.cache.keys import SCHEMA, canonical, hash_canonical, request_from, request_key
from explaineval.cache.mounts import find_network_type
from explaineval.cache.openings import holds_store
from explaineval.cache.stores import Store, open_store
from explaineval.cache.summaries import ModelStats, StoreStats

__all__ = [
    "MAX_BYTES",
    "SCHEMA",
    "ModelStats",
    "Store",
    "StoreStats",
    "canonical",
    "find_network_type",
    "hash_canonical",
    "holds_store",
    "open_store",
    "request_from",
    "request_key",
]
