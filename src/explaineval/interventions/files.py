"""Read one line of an interventions file, strictly. Reading the file itself is done elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explaineval.errors import InputError
from explaineval.interventions.edit import check
from explaineval.interventions.kinds import kind_of
from explaineval.records import Example, Intervention

Tasks = Mapping[str, Mapping[str, Example]]
"""The loaded tasks by name, each with *all* its examples by id (also those that a limit leaves out)."""

TEXTS = ("id", "task", "example_id", "kind", "field", "inserted", "pos", "edited", "target")
PAIR_KEYS = ("id", "task", "example_id", "kind", "pos", "fields", "mention")
"""The keys of a line that brings a whole input."""

REQUIRED = ("example_id", "kind")


def intervention_from(obj: object, *, where: str, tasks: Tasks) -> Intervention:
    """Return the intervention that one parsed JSON line describes, checked against its example.

    `where` names the line ("F.jsonl:12") at the start of each message. A missing task is found by the
    example's id; a missing id is derived from the rest. Raises InputError for anything that the contract of
    the interventions file does not allow, a line for a task that is not loaded, and one that fits several.
    """
    line = check_line(obj, where)
    task = _task_of(line, where, tasks)
    example = tasks[task][line["example_id"]]
    content = {**line, "task": task}
    intervention = Intervention(**content) if "id" in content else Intervention.identified(**content)
    try:
        check(example, intervention)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return intervention


def check_line(obj: object, where: str) -> dict[str, Any]:
    """Return the line as a dictionary whose keys are known, whose values have the right types, without nulls."""
    if not isinstance(obj, Mapping):
        raise InputError(f"{where}: a line must be one JSON object, not {_json_name(obj)}")
    unknown = sorted(str(key) for key in obj if key not in (*TEXTS, "offset", "fields", "mention"))
    if unknown:
        keys = f"{', '.join(TEXTS)} and offset, or fields and mention"
        raise InputError(f"{where}: unknown key {unknown[0]!r}; an intervention has {keys}")
    line = {key: value for key, value in obj.items() if value is not None}
    for key in REQUIRED:
        if key not in line:
            raise InputError(f"{where}: {key!r} is missing")
    if "fields" in line or "mention" in line:
        return _check_pair(line, where)
    inserts = kind_of(str(line["kind"])).inserts
    if "inserted" not in line and inserts not in ("shots", "nothing"):
        raise InputError(f"{where}: 'inserted' is missing")
    for key, value in line.items():
        if key == "offset":
            if not isinstance(value, int) or isinstance(value, bool):
                raise InputError(f"{where}: 'offset' must be a whole number, not {_json_name(value)}")
        elif not isinstance(value, str):
            raise InputError(f"{where}: {key!r} must be a string, not {_json_name(value)}")
        elif not value.strip() and key != "edited" and not (key == "inserted" and inserts == "space" and value):
            raise InputError(f"{where}: {key!r} is empty")
    if inserts == "nothing":
        raise InputError(f"{where}: the kind {line['kind']!r} is reserved for unchanged inputs; choose another name")
    return line


def _check_pair(line: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a line that brings a whole input, with its phrases as a tuple."""
    other = [key for key in line if key not in PAIR_KEYS]
    if other:
        raise InputError(f"{where}: {other[0]!r} is of an insertion, but the line has a whole input: leave out one")
    for key in PAIR_KEYS:
        value = line.get(key)
        if key == "fields":
            texts = list(value.values()) if isinstance(value, Mapping) else []
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                raise InputError(f"{where}: 'fields' must be an object with the text of each changed field")
        elif key == "mention":
            phrases = value if isinstance(value, (list, tuple)) else []
            if not phrases or not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
                raise InputError(f"{where}: 'mention' must be a list of phrases that name what is changed")
        elif value is not None and (not isinstance(value, str) or not value.strip()):
            raise InputError(f"{where}: {key!r} must be a string that is not empty")
    return {**line, "mention": tuple(line["mention"])}


def _task_of(line: Mapping[str, Any], where: str, tasks: Tasks) -> str:
    example_id = line["example_id"]
    loaded = ", ".join(tasks) or "none"
    task: str | None = line.get("task")
    if task is not None:
        if task not in tasks:
            raise InputError(
                f"{where}: the line is for task {task!r}, which is not loaded (loaded: {loaded}); "
                "load that task or use another interventions file"
            )
        if example_id not in tasks[task]:
            raise InputError(f"{where}: task {task!r} has no example {example_id!r}")
        return task
    fitting = [name for name, examples in tasks.items() if example_id in examples]
    if len(fitting) > 1:
        field = line.get("field")
        fitting = [name for name in fitting if field in (None, *tasks[name][example_id].fields)] or fitting
    if len(fitting) > 1:
        raise InputError(
            f"{where}: example {example_id!r} is in the tasks {' and '.join(fitting)}; "
            'add "task" to say which one is meant'
        )
    if not fitting:
        raise InputError(f"{where}: no loaded task (loaded: {loaded}) has an example {example_id!r}")
    return fitting[0]


JSON_NAMES = {
    type(None): "null", bool: "true or false", int: "a number", float: "a number with a decimal point",
    str: "a string", list: "an array",
}  # fmt: skip


def _json_name(value: object) -> str:
    """Return what JSON calls the value, for a message."""
    return JSON_NAMES.get(type(value), "an object")
