"""The cache of paid answers: none is lost, bought twice, or given to another request. Only it imports diskcache."""

from __future__ import annotations

from explaineval.cache.keys import canonical, hash_canonical, request_from, request_key
from explaineval.cache.locks import Claims, find_network_type, is_stopped, spread
from explaineval.cache.maintenance import Pruning, Verification, plan_pruning, prune, reclaim_space, verify_store
from explaineval.cache.packs import Exported, Imported, export_pack, import_pack
from explaineval.cache.rows import AnswerOrigin, verdict_name
from explaineval.cache.statistics import ModelStats, PriceOf, total_usd
from explaineval.cache.store import Store, holds_store, open_store

__all__ = [
    "AnswerOrigin",
    "Claims",
    "Exported",
    "Imported",
    "ModelStats",
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
