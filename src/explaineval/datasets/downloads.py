"""Where the datasets officially live, and the join that makes ECQA's own CSV files (its ReadMe, "Joining")."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass

from explaineval.errors import InputError

_RAW = "https://raw.githubusercontent.com"
_COMVE = f"{_RAW}/wangcunxiang/SemEval2020-Task4-Commonsense-Validation-and-Explanation/master/ALL%20data"
_ECQA = f"{_RAW}/dair-iitd/ECQA-Dataset/main"
_TRACES = "https://huggingface.co/datasets/richardyoung/cot-faithfulness-open-models/resolve/main/results"
_TRACED_MODELS = (
    "deepseek-r1", "deepseek-v3.2-speciale", "ernie-4.5-21b-thinking", "gpt-oss-120b", "minimax-m2.5",
    "nemotron-nano-9b", "olmo-3-7b-think", "olmo-3.1-32b-think", "qwen3.5-27b", "qwq-32b", "seed-1.6-flash",
    "step-3.5-flash",
)  # fmt: skip
_HINTS = ("sycophancy", "consistency", "metadata", "grader", "unethical")
_CQA = "https://s3.amazonaws.com/commensenseqa"


@dataclass(frozen=True)
class Download:
    """One file of a dataset: its address and where it goes below the target directory."""

    url: str
    target: str


@dataclass(frozen=True)
class Official:
    """A dataset's official files, its licence as the authors state it, and the option that takes it."""

    files: tuple[Download, ...]
    licence: str
    use: str
    taken_by: str = "--task"


OFFICIAL: dict[str, Official] = {
    "esnli": Official(
        tuple(
            Download(f"{_RAW}/OanaMariaCamburu/e-SNLI/master/dataset/{name}", name)
            for name in ("esnli_train_1.csv", "esnli_train_2.csv", "esnli_dev.csv", "esnli_test.csv")
        ),
        "MIT (Camburu et al. 2018)",
        "esnli:{dir}/esnli_dev.csv",
    ),
    "comve": Official(
        tuple(
            Download(f"{_COMVE}/{folder}/{name}", f"{split}/{name}")
            for split, folder, names in (
                ("train", "Training%20%20Data", ("A_data_all", "A_answers_all", "C_answers_all")),
                ("dev", "Dev%20Data", ("A_dev_data", "A_gold_answers", "C_gold_answers")),
                ("test", "Test%20Data", ("A_test_data", "A_gold_answers", "C_gold_answers")),
            )
            for name in (f"subtask{part}.csv" for part in names)
        ),
        "CC BY-SA 4.0 (Wang et al. 2020)",
        "comve:{dir}/dev",
    ),
    "ecqa": Official(
        (
            Download(f"{_ECQA}/ecqa.jsonl", "ecqa.jsonl"),
            *(Download(f"{_ECQA}/author_split/{s}_ids.txt", f"{s}_ids.txt") for s in ("train", "val", "test")),
            Download(f"{_CQA}/train_rand_split.jsonl", "train_rand_split.jsonl"),
            Download(f"{_CQA}/dev_rand_split.jsonl", "dev_rand_split.jsonl"),
        ),
        "CC BY-SA 4.0 (Aggarwal et al. 2021); the questions are CommonsenseQA's",
        "ecqa:{dir}/cqa_data_test.csv",
    ),
    "traces": Official(
        tuple(
            Download(f"{_TRACES}/{name}", name)
            for model in _TRACED_MODELS
            for hint in _HINTS
            for name in (f"hinted/{model}/{hint}.jsonl", f"classified_sonnet/{model}/{hint}.jsonl")
        ),
        "CC BY 4.0 (Young 2026); the questions are MMLU's and GPQA's, which have licences of their own",
        "traces:{dir}",
        "validate --against",
    ),
}

ECQA_COLUMNS = (
    "", "q_no", "q_concept", "q_text", "q_op1", "q_op2", "q_op3", "q_op4", "q_op5", "q_ans",
    "taskA_pos", "taskA_neg", "taskB",
)  # fmt: skip


def join_ecqa(questions: Iterable[str], explanations: Iterable[str], ids: Iterable[str]) -> str:
    """The text of one split's cqa_data CSV: CommonsenseQA's questions joined with ECQA's annotations.

    `questions` and `explanations` are JSON lines, `ids` one id a line; ids without annotation are left out, as
    the authors' own script does. Raises InputError where a line is not what the official files hold.
    """
    try:
        asked = {row["id"]: row for row in map(json.loads, questions)}
        told = {row["id"]: row for row in map(json.loads, explanations) if "explanation" in row}
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(ECQA_COLUMNS)
        wanted = [key for key in (line.strip() for line in ids) if key in told]
        for index, key in enumerate(wanted):
            question, note = asked[key]["question"], told[key]
            texts = {choice["label"]: choice["text"] for choice in question["choices"]}
            writer.writerow(
                [index, key, question["question_concept"], question["stem"]]
                + [texts[letter] for letter in "ABCDE"]
                + [texts[asked[key]["answerKey"]]]
                + ["\n".join(note["positives"]), "\n".join(note["negatives"]), note["explanation"]]
            )
    except (KeyError, TypeError, json.JSONDecodeError) as exc:
        raise InputError(f"the official ECQA files could not be joined ({exc!r}): their format has changed.") from None
    return out.getvalue()
