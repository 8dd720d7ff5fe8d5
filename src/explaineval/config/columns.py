"""Which columns of a CSV file hold what: the option `--columns`, and `columns` in a configuration file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping

from pydantic import Field

from explaineval.errors import InputError
from explaineval.records import Record

EXAMPLE = "id=ID,premise=Text,hypothesis=Claim,gold=Label"
"""What `--columns` looks like, for messages."""


class Columns(Record):
    """The columns of a CSV file that hold an example's parts; each value is the name of a column.

    `fields` are the named texts of an example, `options` the texts of its options by their letters. Without `options`
    they are those that go with the names of the fields; without `id` an example is named by the number of its row.
    """

    fields: dict[str, str]
    options: dict[str, str] = Field(default_factory=dict)
    id: str | None = None
    gold: str | None = None
    explanation: str | None = None

    @property
    def used(self) -> list[str]:
        """The names of all columns that are read, each once."""
        single = (self.id, self.gold, self.explanation)
        return list(dict.fromkeys([*filter(None, single), *self.fields.values(), *self.options.values()]))

    @property
    def required(self) -> list[str]:
        """The names of the columns that must not be empty: the id, and all that the model is shown."""
        return list(dict.fromkeys([*([self.id] if self.id else []), *self.fields.values(), *self.options.values()]))


def columns_of(names: Mapping[str, str]) -> Columns:
    """Return the columns by what they hold: `id`, `gold`, `explanation`, an option's letter, else a field.

    Raises InputError for a blank name, a column that is given for two things, or where no field is named.
    """
    for name, column in names.items():
        if not name.strip() or not column:
            raise InputError(f"columns: a name or its column is blank ({name}={column}): write it like {EXAMPLE}.")
    if "options" in names:
        raise InputError("columns: give each option's text a column of its own, A=COLUMN,B=COLUMN, not options.")
    options = {name: column for name, column in names.items() if len(name) == 1 and "A" <= name <= "Z"}
    single = {name: names[name] for name in ("id", "gold", "explanation") if name in names}
    fields = {name: column for name, column in names.items() if name not in options and name not in single}
    if not fields:
        raise InputError(
            "columns: no field is named: beside id, gold, explanation and the letters of options, at least one text "
            f"that the model is shown needs its column, as in {EXAMPLE}."
        )
    if len(options) == 1:
        raise InputError(f"columns: {next(iter(options))} is the only option: give a column for each, A=…,B=….")
    counts = Counter(column for name, column in names.items() if name != "id")
    shared = next((column for column, count in counts.items() if count > 1), None)
    if shared is not None:
        owners = " and ".join(name for name, column in names.items() if column == shared and name != "id")
        raise InputError(f"columns: the column {shared!r} is given for {owners}: give each a column of its own.")
    return Columns(fields=fields, options=options, **single)


def read_columns(text: str) -> dict[str, str]:
    """Return `NAME=COLUMN,NAME=COLUMN` as a mapping. A part with a comma stands in double quotes. Raises InputError.

    >>> read_columns('id=ID,"premise=Text, in full"')
    {'id': 'ID', 'premise': 'Text, in full'}
    """
    names: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        name, equals, column = part.strip().partition("=")
        if not (equals and name and column):
            raise InputError(f"--columns {part!r}: write NAME=COLUMN,NAME=COLUMN, for example {EXAMPLE}.")
        if name in names:
            raise InputError(f"--columns names {name} twice: name each field once.")
        names[name] = column
    return names
