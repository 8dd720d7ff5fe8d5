"""The trend of each metric over model size, between the models of one group on one task and kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from explaineval.metrics.differences import Measured
from explaineval.metrics.trends import SizedModel, Trend, trend_over_size
from explaineval.scoring.comparisons.groups import PRIMARY, Group
from explaineval.scoring.comparisons.tuning import Sizes
from explaineval.scoring.registry import IMPACT_RATE, PHI_AT_P

TOGETHER = (PRIMARY, IMPACT_RATE, PHI_AT_P)
"""phi-CCT follows the impact rate, so its trend is told with those of the other two, over the same models."""


def size_trends(group: Group, measured: Mapping[str, Sequence[Measured]], sizes: Sizes) -> dict[str, Trend]:
    """Return the trend of each metric by name; none where fewer than two of the models have a known size.

    `measured` has the values of the group's systems by metric. The trends of phi-CCT, of the impact rate and of phi-CCT
    at a common impact rate rest on the models that have all three.
    """
    known = [sizes.get((system.endpoint, system.model)) for system in group.systems]
    if group.by != "model" or sum(size is not None for size in known) < 2:
        return {}
    together = [measured[name] for name in TOGETHER if name in measured]
    in_all = [all(systems[number].undefined is None for systems in together) for number in range(len(known))]
    trends = {}
    for name, systems in measured.items():
        trends[name] = trend_over_size([
            SizedModel(size.family, size.parameters, system)
            for size, system, usable in zip(known, systems, in_all, strict=True)
            if size is not None and (usable or name not in TOGETHER)
        ])  # fmt: skip
    return trends
