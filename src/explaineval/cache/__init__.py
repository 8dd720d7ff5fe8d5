"""The cache of paid answers: none is lost, bought twice, or given to another request. Only it imports diskcache."""

from __future__ import annotations

from explaineval.cache.keys import canonical, hash_canonical, request_from, request_key
from explaineval.cache.locks import Claims, find_network_type, is_stopped, spread
from explaineval.cache.maintenance import Pruning, Verification, plan_pruning, prune, reclaim_space, verify_store
from explaineval.cache.packs import Imported, PackContents, export_pack, import_pack
from explaineval.cache.rows import AnswerOrigin, verdict_name
from explaineval.cache.store import ModelStats, PriceOf, Store, holds_store, open_store, total_usd

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
