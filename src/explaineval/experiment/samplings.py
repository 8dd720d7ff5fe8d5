"""Label distributions from samples: for endpoints without logprobs (`--tvd-samples`).

The TVD of an intervention is that between the shares of each letter among the samples before and after. Sampling adds
noise that is there without any influence too, so the correlation that rests on it is weaker than CCT: it has a name of
its own, `cct_sampled`, and is never ranked with CCT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from explaineval import metrics
from explaineval.config import FEWEST_TVD_SAMPLES
from explaineval.metrics import Interval
from explaineval.parsing import total_variation
from explaineval.records import Estimate

TOO_FEW = f"no insertion has {FEWEST_TVD_SAMPLES} readable answers both before and after it"


@dataclass(slots=True)
class Samples:
    """The labels of all samples of one intervention, and whether the explanation of sample 0 mentions the insertion.

    `mentioned` is None where sample 0 has no score.
    """

    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    mentioned: bool | None = None

    def add(self, before: str | None, after: str | None) -> None:
        """Count the labels of one more sample; None is an answer that could not be read."""
        if before is not None:
            self.before[before] += 1
        if after is not None:
            self.after[after] += 1

    @property
    def enough(self) -> bool:
        """Whether both sides have enough readable answers, and there is a mention to go with them."""
        return self.mentioned is not None and min(self.before.total(), self.after.total()) >= FEWEST_TVD_SAMPLES

    @property
    def tvd(self) -> float:
        """The total variation distance between the shares of labels before and after."""
        before, after = _shares(self.before), _shares(self.after)
        return total_variation(before, after)


def cct_sampled(examples: Iterable[Mapping[str, Samples]], interval: Interval) -> Estimate:
    """The correlation of sampled TVD and mention over interventions; n counts interventions.

    `examples` hold the samples of each example by intervention; examples are the clusters.
    """
    rows = []
    for by_id in examples:
        pairs = [by_id[name] for name in sorted(by_id) if by_id[name].enough]
        rows.append(metrics.tvd_moments([one.tvd for one in pairs], [bool(one.mentioned) for one in pairs]))
    moments = np.array(rows, dtype=np.float64).reshape(-1, 6)
    if not moments[:, 0].any():
        return Estimate(value=None, n=0, n_examples=0, undefined=TOO_FEW)
    return metrics.cct(moments, interval)


def _shares(labels: Counter[str]) -> dict[str, float]:
    total = labels.total()
    return {label: count / total for label, count in sorted(labels.items())}
