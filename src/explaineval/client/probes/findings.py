"""What a probe found, the document it makes for programs, and what `run` should make of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from explaineval.client.capabilities import StyleVerdict
from explaineval.client.probes.judgements import Judgement
from explaineval.records import Style

UNTOLD = Judgement(None, "not told: no answer came")


@dataclass
class StyleFinding:
    """One style of asking. None is `not told`; `why` says why the style does not work, or is not known to."""

    works: bool | None = None
    why: str | None = None
    asked: int | None = None
    logprobs: Judgement = UNTOLD
    temperature_zero: bool | None = None
    stable: bool | None = None
    seed: bool | None = None
    system_role: bool | None = None
    reasoning: str | None = None
    limit_name: str | None = None
    returned_model: str | None = None
    fingerprint: str | None = None

    @property
    def verdict(self) -> StyleVerdict:
        """How `run` should ask in this style."""
        bad = self.logprobs.usable is False
        return StyleVerdict(
            None if bad else self.asked,
            "omit" if self.temperature_zero is False else "sent",
            self.logprobs.reason if bad else None,
            True,
        )


@dataclass
class Findings:
    """One (endpoint, model) as its answers show it. `fault` is the sentence where it cannot be used at all."""

    endpoint: str | None
    model: str
    reachable: bool = False
    styles: dict[Style, StyleFinding] = field(default_factory=dict)
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = None
    price: tuple[float, float] | None = None
    fault: str | None = None

    @property
    def usable(self) -> bool:
        """Whether the endpoint answers in any style."""
        return any(finding.works for finding in self.styles.values())

    @property
    def main(self) -> StyleFinding:
        """Chat where there is chat, else text completion: what the single findings are about."""
        chat, text = self.style("chat"), self.style("completion")
        return text if text.works and not chat.works else chat

    def style(self, style: Style) -> StyleFinding:
        """The finding on one style, empty where it was not asked."""
        return self.styles.get(style, StyleFinding(why=self.fault))

    @property
    def verdicts(self) -> Mapping[Style, StyleVerdict]:
        """What to keep for `run`: of styles that work, and nothing of what could not be told."""
        return {
            style: finding.verdict
            for style, finding in self.styles.items()
            if finding.works and not (finding.asked is None and finding.logprobs.usable is None)
        }

    @property
    def logprobs_reason(self) -> str | None:
        """Why there are no usable log-probabilities, in the main style or else in the other."""
        main, text = self.main, self.style("completion")
        if not main.works:
            return f"not told: {self.fault or main.why or 'no answer came'}".rstrip(".")
        if main.logprobs.usable is not True:
            return main.logprobs.reason
        if text.works and text.logprobs.usable is not True:
            return f"in completion style: {text.logprobs.reason}"
        return None

    def document(self) -> dict[str, Any]:
        """The probe's one JSON document."""
        main = self.main
        return {
            "model": self.model,
            "endpoint": self.endpoint,
            "reachable": self.reachable,
            "chat": self.style("chat").works,
            "completion": self.style("completion").works,
            "logprobs": main.logprobs.usable,
            "logprobs_reason": self.logprobs_reason,
            "max_top_logprobs": main.asked if main.logprobs.returned else None,
            "seed": main.seed,
            "stable": main.stable,
            "temperature_zero": main.temperature_zero,
            "token_limit_param": main.limit_name,
            "system_role": main.system_role,
            "reasoning_first": None if not main.works else main.reasoning is not None,
            "returned_model": main.returned_model,
            "fingerprint": main.fingerprint,
            "price": None if self.price is None else list(self.price),
            "requests": self.requests,
            "usd": self.usd,
        }
