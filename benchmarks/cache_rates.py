"""How fast is the cache? Our store beside a plain diskcache.Cache that holds the same values, in one run.

    python benchmarks/cache_rates.py [ROWS]

Rows are like real ones: a prompt of 1.2 kB and an answer with token alternatives, about 2 kB of JSON.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import diskcache

from explaineval.cache import Store, canonical, open_store, request_key
from explaineval.cache.keys import make_row
from explaineval.records import Completion, Message, Request, TokenAlternatives

WAITERS = 64


def make_answers(count: int) -> list[tuple[Request, Completion]]:
    """Requests and completions of random words, the same in every run."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(3000)]
    answers = []
    for index in range(count):
        request = Request(
            model="openai/some-model",
            style="chat",
            messages=(Message(role="user", content=" ".join(draw.choices(words, k=180)) + str(index)),),
            max_tokens=512,
            temperature=0.0,
            logprobs=20,
        )
        top = tuple((letter, -draw.random() * 9) for letter in "ABCDEFGHIJ")
        completion = Completion(
            text="Answer: A\nExplanation: " + " ".join(draw.choices(words, k=50)),
            finish_reason="stop",
            logprobs=(TokenAlternatives.model_validate({"offset": 8, "token": " A", "top": top}),),
            usage={"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360},
        )
        answers.append((request, completion))
    return answers


def rate(count: int, work: Callable[[], object]) -> float:
    """Items a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


async def put_all(store: Store, answers: list[tuple[Request, Completion]]) -> None:
    """`WAITERS` tasks that each wait for every one of their puts."""
    source = iter(answers)

    async def work() -> None:
        for request, completion in source:
            await store.put(request, completion)

    await asyncio.gather(*(work() for _ in range(WAITERS)))


def main(count: int) -> None:
    """Measure and print."""
    answers = make_answers(count)
    keys = [request_key(request) for request, _ in answers]
    values = [make_row(canonical(request), completion) for request, completion in answers]
    with tempfile.TemporaryDirectory() as folder:
        plain = diskcache.Cache(folder + "/plain", eviction_policy="none", cull_limit=0, size_limit=2**60)
        plain_set = rate(count, lambda: [plain.set(key, value) for key, value in zip(keys, values, strict=True)])
        plain_get = rate(count, lambda: [plain[key] for key in keys])
        plain.close()
        store = open_store(Path(folder) / "ours")
        ours_set = rate(count, lambda: asyncio.run(put_all(store, answers)))
        ours_get = rate(count, lambda: [store.get(key) for key in keys])
        ours_iterate = rate(count, lambda: sum(1 for _ in store.iterate()))
        size = store.stats().bytes / count
        store.close()
        opening = 1 / rate(1, lambda: open_store(Path(folder) / "ours").close())
    print(f"{count} rows, {size:,.0f} bytes each on disk, {WAITERS} tasks waiting for their puts")
    print(f"set: {ours_set:9,.0f}/s   plain diskcache {plain_set:9,.0f}/s   ratio {ours_set / plain_set:.2f}")
    print(f"get: {ours_get:9,.0f}/s   plain diskcache {plain_get:9,.0f}/s   ratio {ours_get / plain_get:.2f}")
    print(f"iterate: {ours_iterate:,.0f}/s   open and close: {opening:.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
