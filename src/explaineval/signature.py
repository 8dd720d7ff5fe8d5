"""The one-line birth certificate of a number, generated from all of the scientific configuration.

A field of RunConfig that is not named in WITHIN enters every signature under its own name, so that a new knob can
never be forgotten; WITHIN says which knobs are already told by another part, or concern some metrics only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from explaineval._version import __version__
from explaineval.config import RunConfig
from explaineval.interventions import kind_of

MENTION_FREE = frozenset(
    {"impact_rate", "accuracy", "sham_flip_rate", "excluded_rate", "mean_tvd", "explanation_words"}
    | {"null_edit_flip_rate", "flip_to_cue_rate"}
)
NEEDS_TVD = frozenset({"cct", "mean_tvd", "phi_cct_tvd_trials"})
NEEDS_SHAMS = frozenset({"sham_flip_rate", "phi_stable"})
SEEDED = frozenset({"phi_cct_random", "phi_cct_example_only", "f_auroc_hull"})
SAMPLED = frozenset({"cct_sampled"})
KINDLESS = frozenset({"accuracy", "sham_flip_rate"})

PHRASES = "phrases"
"""Stands for the phrase list of a cue where a number's mention policy is named."""

WITHIN = {
    "tasks": "the hash of the examples",
    "limit": "the hash of the examples",
    "models": "model, endpoint",
    "arms": "order, style, shots, verbosity",
    "shots_from": "the hash of the shots",
    "interventions": "the hash of the interventions",
    "prompts": "the hash of the prompts",
    "seed": "the hash of the interventions; resampling where it is used",
    "resamples": "resampling where it is used",
    "temperature": "what was sent",
    "logprobs": "what was sent",
    "mention": "metrics of mention only",
    "min_label_mass": "metrics of TVD only",
    "shams": "metrics of shams only",
    "tvd_samples": "metrics of sampled TVD only; the number of samples is said of all",
}
"""Knobs that do not stand in a signature under their own name, and which part of it covers them."""


def mention_rule(metric: str, kind: str | None, policy: str) -> str | None:
    """What decides for a number that something is mentioned: the policy, or for a cue its phrases.

    None where the number does not depend on mentions. `kind` is the kind of intervention, perhaps with its hash.

    >>> mention_rule("tpr", "hand", "lemma"), mention_rule("tpr", "cue_user", "lemma")
    ('lemma', 'phrases')
    >>> mention_rule("impact_rate", "hand", "lemma") is None
    True
    """
    if metric in MENTION_FREE:
        return None
    return PHRASES if kind_of((kind or "").partition("@")[0]).mentioned_by == "phrases" else policy


def digest(values: Iterable[BaseModel | Mapping[str, object]]) -> str:
    """Eight hex digits over records in their given order."""
    total = hashlib.sha256()
    for value in values:
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else dict(value)
        total.update(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        total.update(b"\n")
    return total.hexdigest()[:8]


def signature(config: RunConfig, facts: Mapping[str, str], metric: str) -> str:
    """The signature of one row.

    `facts` are what the row's group knows: task, model, endpoint, order, style, shots, verbosity, prompts,
    temperature, logprobs, and for a kind its name and hash. A metric is signed with what it depends on, no more.
    """
    parts = dict(facts)
    if metric in KINDLESS:
        parts.pop("kind", None)
    if metric not in NEEDS_TVD:
        parts.pop("logprobs", None)
    for name in RunConfig.model_fields:
        if name not in WITHIN:
            parts[name] = _shown(getattr(config, name))
    if (rule := mention_rule(metric, facts.get("kind"), config.mention)) is not None:
        parts["mention"] = rule
    if metric in NEEDS_TVD:
        parts["min_label_mass"] = _shown(config.min_label_mass)
    if metric in NEEDS_SHAMS:
        parts["shams"] = _shown(config.shams)
    if metric in SAMPLED:
        parts["tvd_samples"] = _shown(config.tvd_samples)
    if config.interval == "percentile":
        parts["resamples"] = _shown(config.resamples)
    if config.interval == "percentile" or metric in SEEDED:
        parts["seed"] = _shown(config.seed)
    return "|".join(f"{name}:{value}" for name, value in parts.items()) + f"|explaineval:{__version__}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(value)
