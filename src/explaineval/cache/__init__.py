"""The cache of paid answers: none is lost, bought twice, or given to another request. Only it imports diskcache."""

from __future__ import annotations

from explaineval.cache.keys import AnswerOrigin, canonical, hash_canonical, request_from, request_key, verdict_name
from explaineval.cache.locks import Claims, find_network_type, is_stopped, spread
from explaineval.cache.packs import Imported, PackContents, export_pack, import_pack
from explaineval.cache.store import (
    ModelStats,
    PriceOf,
    Pruning,
    Store,
    Verification,
    holds_store,
    open_store,
    plan_pruning,
    prune,
    reclaim_space,
    total_usd,
    verify_store,
)

__all__ = [
    "AnswerOrigin",
    "Claims",
    "Imported",
    "ModelStats",
    "PackContents",
    "PriceOf",
    "Pruning",
    "Store",
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
