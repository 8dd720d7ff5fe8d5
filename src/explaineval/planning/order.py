"""The order of the plan: requests that begin with the same text come close together.

Servers keep what they have read of recent prompts, and read of a new prompt only what comes after the longest beginning
that they still know (llama.cpp by slots, vLLM by blocks, hosted providers at a lower price). Two orders are possible:

- Prompts with shots begin with a long text of their arm. Its examples follow each other, so that it stays known.
- Prompts without shots begin with the input, and only their last lines tell the arm. All arms ask about one example
  before the next, so that the input is still known.

Which of them holds is seen from the prompts themselves, so that it holds for the user's own templates too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

from explaineval.planning.requests import RequestBuilder
from explaineval.records import Example, Request

Examples = Callable[[RequestBuilder], range]
"""Says which examples of its task a builder's requests are about, by their indices."""


def in_order(
    builders: Iterable[RequestBuilder], examples: Examples, start: float = 0.0
) -> Iterator[tuple[RequestBuilder, int]]:
    """Yield each builder with the index of each of its examples, in the order in which they are to be asked.

    `start` is where in that order to begin, as a share of the whole: what lies before comes last.
    """
    groups = [[(builder, examples(builder)) for builder in group] for group in group_builders(builders)]
    skipped = int(start * sum(len(numbers) for group in groups for _, numbers in group))
    return chain(islice(_pairs(groups), skipped, None), islice(_pairs(groups), skipped))


def group_builders(builders: Iterable[RequestBuilder]) -> list[list[RequestBuilder]]:
    """Group the builders whose prompts about one example share more than what comes before the example.

    Groups stand in the order of their first members.
    """
    groups: list[tuple[str, int, list[RequestBuilder]]] = []
    for builder in builders:
        prompt = _text_of(builder, builder.task.examples[0].fields)
        for text, before_input, members in groups:
            same_task = members[0].task is builder.task and members[0].arm.style == builder.arm.style
            if same_task and shared_length(text, prompt) > before_input:
                members.append(builder)
                break
        else:
            groups.append((prompt, _length_before_input(builder, prompt), [builder]))
    return [members for _, _, members in groups]


def prompt_text(request: Request) -> str:
    """Return all that a request's prompt says, in one text: two of them begin alike as far as their prompts do."""
    if request.prompt is not None:
        return request.prompt
    return "".join(f"{message.role}\n{message.content}\n" for message in request.messages or ())


def shared_length(text: str, other: str) -> int:
    """Return with how many characters both texts begin.

    >>> shared_length("Premise: a dog", "Premise: a cat")
    11
    """
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def _pairs(groups: Sequence[Sequence[tuple[RequestBuilder, range]]]) -> Iterator[tuple[RequestBuilder, int]]:
    for group in groups:
        first = min(numbers.start for _, numbers in group)
        for number in range(first, max(numbers.stop for _, numbers in group)):
            yield from ((builder, number) for builder, numbers in group if number in numbers)


def _text_of(builder: RequestBuilder, fields: Mapping[str, str]) -> str:
    """Return the prompt about the task's first example, with these fields: in order pe2 that of the second call."""
    example: Example = builder.task.examples[0]
    if builder.arm.order == "pe2":
        return prompt_text(builder.build_explanation(example, fields, next(iter(example.options)), None))
    return prompt_text(builder.build(example, fields, None, None))


def _length_before_input(builder: RequestBuilder, prompt: str) -> int:
    """Return how many characters of the prompt about the task's first example are the same whatever its fields say."""
    fields = builder.task.examples[0].fields
    other = {name: ("!" if text.startswith("?") else "?") + text for name, text in fields.items()}
    return shared_length(prompt, _text_of(builder, other))
