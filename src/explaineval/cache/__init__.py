"""The cache of paid answers: never lost, never bought twice, never mixed up. Only it imports diskcache."""

from __future__ import annotations

from explaineval.cache.claims import Claims, is_stopped, spread
from explaineval.cache.disks import MAX_BYTES
from explaineval.cache.keys import SCHEMA, canonical, hash_canonical, request_from, request_key
from explaineval.cache.mounts import find_network_type
from explaineval.cache.openings import holds_store, open_store
from explaineval.cache.packs import Exported, Imported, export_pack, import_pack
from explaineval.cache.prunings import Pruning, plan_pruning, prune, reclaim_space
from explaineval.cache.stores import Store
from explaineval.cache.summaries import ModelStats, PriceOf, StoreStats, total_usd
from explaineval.cache.verdicts import verdict_name
from explaineval.cache.verifications import Verification, verify_store

__all__ = [
    "MAX_BYTES",
    "SCHEMA",
    "Claims",
    "Exported",
    "Imported",
    "ModelStats",
    "PriceOf",
    "Pruning",
    "Store",
    "StoreStats",
    "Verification",
    "canonical",
    "export_pack",
    "find_network_type",
    "hash_canonical",
    "holds_store",
    "import_pack",
    "is_stopped",
    "open_store",
    "plan_pruning",
    "prune",
    "reclaim_space",
    "request_from",
    "request_key",
    "spread",
    "total_usd",
    "verdict_name",
    "verify_store",
]
