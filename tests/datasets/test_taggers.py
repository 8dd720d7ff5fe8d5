"""The door to spaCy. What needs spaCy or a pipeline is skipped where it is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from explaineval.datasets.taggers import PIPELINES, Tagger, open_tagger
from explaineval.errors import InputError
from explaineval.interventions import BuildContext, build_random_words, check
from explaineval.records import Example


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    """The first installed English pipeline."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra `interventions`)")
    if not any(spacy.util.is_package(name) for name in PIPELINES):
        pytest.skip("no English pipeline of spaCy is installed")
    return open_tagger()


def test_tokens_have_offsets_and_coarse_tags(tagger: Tagger) -> None:
    """Nouns, verbs, names and auxiliaries are told apart, and offsets count code points."""
    text = "😀 The dogs are  chasing Mary."

    tokens = tagger.tag(text)

    assert all(text.startswith(token.text, token.offset) for token in tokens)
    tags = {token.text: token.pos for token in tokens}
    assert {"dogs": "NOUN", "are": "AUX", "chasing": "VERB", "Mary": "PROPN"}.items() <= tags.items()


def test_many_texts_are_tagged_as_one_by_one(tagger: Tagger) -> None:
    """The batch gives the same tokens in the same order."""
    texts = ["A man rides a bike.", "", "Dogs bark loudly at night."]

    assert [tagger.tag(text) for text in texts] == list(tagger.tag_many(texts))


def test_tagged_text_gets_random_words(tagger: Tagger) -> None:
    """Real tags lead to interventions that fit their example."""
    text = "A young woman is reading a newspaper in the park."
    example = Example(id="e", task="t", fields={"text": text}, options={"A": "yes", "B": "no"})

    built = build_random_words(
        example,
        BuildContext(
            kind="random_word", per_example=5, seed=0, tokens={"text": tagger.tag(text)}, cue_text=str,
            prompt_texts=lambda _: [], is_present=lambda word, texts: any(word in seen for seen in texts),
        ),
    )  # fmt: skip

    assert len(built) == 5
    for made in built:
        check(example, made)
        assert text[made.offset or 0 :].split()[0] in {"woman", "reading", "newspaper", "park."}


def test_unknown_pipeline_is_an_input_error() -> None:
    """A name that spaCy does not know gives one sentence."""
    pytest.importorskip("spacy", reason="spaCy is not installed (extra `interventions`)")

    with pytest.raises(InputError, match="spaCy cannot load the pipeline 'no_such_pipeline'"):
        open_tagger("no_such_pipeline")


def test_pipeline_without_tagger_is_refused(tmp_path: Path) -> None:
    """A pipeline that does not tag would find no place anywhere: it is refused."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra `interventions`)")
    spacy.blank("en").to_disk(tmp_path / "blank")

    with pytest.raises(InputError, match="does not tag parts of speech"):
        open_tagger(str(tmp_path / "blank"))


def test_missing_pipelines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any English pipeline the message says what to install."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra `interventions`)")
    monkeypatch.setattr(spacy.util, "is_package", lambda _: False)

    with pytest.raises(InputError, match=r"no English pipeline .* spacy download en_core_web_sm"):
        open_tagger()


def test_missing_spacy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without spaCy the message names the extra."""
    monkeypatch.setitem(sys.modules, "spacy", None)

    with pytest.raises(InputError, match=r"needs spaCy.*\.\[interventions\]"):
        open_tagger()


def test_import_does_not_load_spacy() -> None:
    """Importing the module and the interventions leaves spaCy alone."""
    code = "import sys, explaineval.datasets.taggers, explaineval.interventions; sys.exit('spacy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
