"""Signatures: one line for each number that names all of the scientific configuration the number depends on.

A metric declares in `scoring.registry` which of the things in `Dependency` it depends on; everything else enters the
signature of every metric. So does a new field of RunConfig, under its own name, unless it is listed in COVERED,
DEPENDENT or IF_SET.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel

from explaineval._version import __version__
from explaineval.config import FEWEST_MENTIONED_FLIPS, LOOK, RunConfig
from explaineval.interventions import kind_of
from explaineval.mentions import SEARCHES

Dependency = Literal["kind", "cue", "mention", "probabilities", "shams", "tvd_samples", "resampling", "seed"]
"""What some metrics depend on and others do not.

`kind`: the interventions of the row's kind. `cue`: also those of the cue whose control the kind is. `mention`: how
mentions are found. `probabilities`: the label probabilities. `shams`: how often unchanged prompts are asked again.
`tvd_samples`: label distributions counted from samples. `resampling` and `seed`: random draws; where intervals are
percentiles of resamples, every metric depends on both.
"""

COVERED = {
    "tasks": "the hash of the examples",
    "columns": "the hash of the examples",
    "limit": "the hash of the examples",
    "shard": "the hash of the examples",
    "models": "model, endpoint",
    "arms": "order, style, shots, verbosity",
    "shots_from": "the hash of the shots",
    "interventions": "the hash of the interventions",
    "prompts": "the hash of the prompts",
    "temperature": "the temperature that was sent",
    "logprobs": "the log-probabilities that were asked for",
    "metrics": "each metric of a plug-in, in its own rows",
}
"""Fields of RunConfig that do not stand in a signature under their own name, and the part that covers each."""

DEPENDENT: Mapping[str, Dependency] = {
    "mention": "mention",
    "min_label_mass": "probabilities",
    "shams": "shams",
    "tvd_samples": "tvd_samples",
    "resamples": "resampling",
    "seed": "seed",
}
"""Fields of RunConfig that stand only in the signatures of metrics with this dependency."""

IF_SET = ("until_half_width",)
"""Fields of RunConfig that stand in signatures only where they are set."""

PHRASES = "phrases"
"""Stands for the phrase list of a cue where a signature names the mention policy."""


def mention_rule(kind: str | None, policy: str) -> str:
    """Return what decides whether an insertion of this kind is mentioned: the policy, or for a cue its phrases.

    >>> mention_rule("hand", "lemma"), mention_rule("cue_user", "lemma")
    ('lemma', 'phrases')
    """
    return PHRASES if kind_of(kind or "").mentioned_by == "phrases" else policy


class Digest:
    """Eight hex digits of the SHA-256 of records in the order in which they are added."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def add(self, value: BaseModel | Mapping[str, object]) -> None:
        """Add a record, as JSON with sorted keys on a line."""
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else dict(value)
        self._total.update(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        self._total.update(b"\n")

    def __str__(self) -> str:
        return self._total.hexdigest()[:8]


def digest(values: Iterable[BaseModel | Mapping[str, object]]) -> str:
    """Return eight hex digits of the SHA-256 of records in their given order."""
    total = Digest()
    for value in values:
        total.add(value)
    return str(total)


def signature(
    config: RunConfig,
    facts: Mapping[str, str],
    depends: Collection[Dependency],
    mention: str | None = None,
    source: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the signature of one metric row.

    `facts` are the parts that belong to the row's condition: task, model, endpoint, order, style, shots, verbosity,
    prompts, temperature, logprobs, and for a kind its name and hash. `depends` is what the metric declares. Where it
    depends on mentions, `mention` is what decides on them (None: the policy of `config`, or the phrases of a cue), and
    `source` holds further parts on where they were found.
    """
    parts = dict(facts)
    if "kind" not in depends:
        parts.pop("kind", None)
    if "probabilities" not in depends:
        parts.pop("logprobs", None)
    for name in RunConfig.model_fields:
        if name not in COVERED and name not in DEPENDENT and name not in IF_SET:
            parts[name] = _shown(getattr(config, name))
    if config.until_half_width is not None:
        rule = f"looks of {LOOK} in order of seed {config.seed}, from {FEWEST_MENTIONED_FLIPS} mentioned"
        rule += " and 1 in the rarest cell"
        parts["until_half_width"] = f"{config.until_half_width:g} ({rule})"
    needed = {*depends, *(("resampling", "seed") if config.interval == "percentile" else ())}
    for name, dependency in DEPENDENT.items():
        if dependency in needed:
            parts[name] = _shown(getattr(config, name))
    if "mention" in depends:
        rule = mention or mention_rule(facts.get("kind", "").partition("@")[0], config.mention)
        parts["mention"] = SEARCHES.signed(rule)
        parts |= source
    return "|".join(f"{name}:{value}" for name, value in parts.items()) + f"|explaineval:{__version__}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(value)
