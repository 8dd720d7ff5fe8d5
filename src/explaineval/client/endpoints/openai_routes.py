"""The models that can be asked in OpenAI's protocol without litellm: those that `--transport direct` serves. Pure.

A model is served where a base URL is given and litellm, too, would send its requests there as they are. Providers with
an address or a form of their own are asked through litellm.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from explaineval.config import Endpoint
from explaineval.errors import InputError
from explaineval.records import Style

PATHS: Mapping[Style, str] = {"chat": "/chat/completions", "completion": "/completions"}
"""What follows the base URL."""

ROUTES: Mapping[str, tuple[Style, ...]] = {
    "openai": ("chat", "completion"),
    "hosted_vllm": ("chat", "completion"),
    "text-completion-openai": ("completion",),
}
"""What stands before the slash in a served model's name, and the styles that it serves.

On other routes of this protocol (lm_studio, llamafile, litellm_proxy) litellm changes names of models, or makes chat
turns of text completions; the same servers can be asked as openai.
"""

REFUSED: Mapping[Style, frozenset[str]] = {
    "chat": frozenset({"thinking", "verbosity"}),
    "completion": frozenset({"thinking", "verbosity", "reasoning_effort", "service_tier"}),
}
"""Parameters that are not sent, because litellm refuses them on these routes, or makes others of them.

Inside extra_body both transports send them.
"""

OTHER_FORM = re.compile(
    r"(^|/)(responses/|o\d)|gpt-[5-9]|gpt-.*audio|codex|deep-research|computer-use|daybreak", re.IGNORECASE
)
"""Names on openai/ whose requests litellm changes: reasoning models of OpenAI, and those of its Responses API."""


def check_route(model: str, endpoint: Endpoint) -> None:
    """Check that a model (provider/model) can be asked at this endpoint without litellm.

    Raises:
        InputError: it has no base URL, is of another provider, or is one for which litellm changes requests.
    """
    provider, _, name = model.partition("/")
    if provider not in ROUTES:
        instead = f", or name the model openai/{name} if its server has OpenAI's protocol" if endpoint.base_url else ""
        raise InputError(
            f"{model}: --transport direct asks models named {', '.join(f'{route}/…' for route in ROUTES)}; {provider}/ "
            f"is asked through litellm: leave --transport direct out{instead}."
        )
    if endpoint.base_url is None:
        raise InputError(
            f"{model}: --transport direct needs the server's address: give it by --base-url, or leave --transport "
            "direct out."
        )
    if provider == "openai" and OTHER_FORM.search(name):
        raise InputError(
            f"{model}: OpenAI's reasoning models and its Responses API take requests in another form, which litellm "
            "knows: leave --transport direct out."
        )


def refused_params(style: Style, params: Collection[str]) -> list[str]:
    """Return which of these parameters are not sent in this style, in alphabetical order."""
    return sorted(REFUSED[style].intersection(params))
