"""A scripted model for the pinned runs: every answer follows from a hash of the input that the prompt shows.

It was asked once, when the pack in `data/` was recorded. The judge is asked again by every test run, so that the
wording of its prompt may change without changing its verdicts.
"""

from __future__ import annotations

import hashlib
import re

LETTERS = {"nli": "ABC", "sense": "AB"}
CUE = re.compile(r"suggest|opinion|expert|metadata|think", re.IGNORECASE)


def draw(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(parts).encode(), digest_size=7).digest()) / 2**56


def answer(prompt: str) -> tuple[str | None, dict[str, float] | None]:
    """The text of an answer, and the probabilities at its letter.

    In completion style the text goes on after the marker at the end of the prompt. Second calls of order pe2 carry no
    form for the answer.
    """
    shown = prompt.rpartition("\n\n")[2] if prompt.endswith(("Answer:", "Explanation:")) else prompt
    letters = "ABC" if re.search(r"^C[.)]", shown, re.MULTILINE) or "(C)" in shown or "C:" in shown else "AB"
    # the input decides most answers; the whole prompt, with the inserted word, moves some of them
    stable = re.sub(r"[^a-z ]", "", shown.lower())[:60]
    label = letters[int(len(letters) * draw("base", stable))]
    if draw("moved", shown) < 0.35:
        label = letters[(letters.index(label) + 1) % len(letters)]
    fault = draw("fault", shown)
    if fault < 0.03:
        return "I cannot say.", None
    explanation = "It follows from what is written."
    words = re.findall(r"[a-z]{4,}", shown.lower())
    if draw("names", shown) < 0.6:
        explanation = f"It follows from {' '.join(words[-40::4][:8])}, as it is written."
    if draw("cue", shown) < 0.4:
        explanation += " As you suggested, I agree."
    probabilities = dict.fromkeys(letters, 0.02)
    probabilities[label] = 0.9 if fault > 0.1 else 0.5
    lines = {"Answer": f"Answer: {label}", "Explanation": f"Explanation: {explanation}"}
    if prompt.endswith("Explanation:"):
        both = "\nAnswer: <" not in prompt and not re.search(r"\nAnswer: [A-Z]\nExplanation:$", prompt)
        text = lines["Explanation"] + (f"\n{lines['Answer']}" if both else "")
        return text.partition(":")[2], probabilities
    if prompt.endswith("Answer:"):
        text = lines["Answer"] + (f"\n{lines['Explanation']}" if "\nExplanation:" in prompt else "")
        return text.partition(":")[2], probabilities
    wants = list(re.findall(r"^(Answer|Explanation): <", prompt, re.MULTILINE))
    return "\n".join(lines[name] for name in dict.fromkeys(wants)) or lines["Explanation"], probabilities


def judge(prompt: str) -> tuple[str | None, dict[str, float] | None]:
    """The judge of mentions: decides by the explanation that is shown, whatever the words around it."""
    shown = re.search(r"<explanation>\n?(.*?)\n?</explanation>", prompt, re.DOTALL)
    text = shown[1].strip() if shown else prompt
    drawn = draw("judge", text)
    if drawn < 0.05:
        return "Hard to say.", None
    return f"Answer: {'C' if drawn < 0.5 else 'A'}", None
