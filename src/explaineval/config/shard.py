"""A shard: the part I of N of a run, which one machine asks. An example's id alone says which shard it belongs to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

_FORM = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*")


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `count`; numbers begin at 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def suffix(self) -> str:
        """How the shard stands in the name of a run directory."""
        return f"{self.number}of{self.count}"

    def holds(self, example_id: str) -> bool:
        """Say whether an example belongs to this shard, by the SHA-256 of its id in UTF-8.

        The hash is read as one number, most significant byte first; its remainder by N is I − 1.

        >>> [Shard(number, 3).holds("nli-001") for number in (1, 2, 3)].count(True)
        1
        """
        hashed = hashlib.sha256(example_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(hashed, "big") % self.count == self.number - 1


def read_shard(value: Any) -> Any:
    """Read `I/N`. Raises ValueError for anything else."""
    if isinstance(value, Shard):
        return value
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        number, count = map(int, found.groups())
        if 1 <= number <= count:
            return Shard(number, count)
    raise ValueError(f"{value!r} is no shard; write I/N with I from 1 to N, for example 1/4")


ShardText = Annotated[InstanceOf[Shard], BeforeValidator(read_shard), PlainSerializer(str, return_type=str)]
"""A shard that files and options write as `I/N`."""
