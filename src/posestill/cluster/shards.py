"""Shards: work whose parts several machines take, each part by its place in a list that all of them make alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from posestill.schema import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of so many shares of some work, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def file_name(self) -> str:
        """The same where a name of a file is wanted: the slash parts folders."""
        return f"{self.number}-of-{self.count}"

    def has(self, position: int) -> bool:
        """Whether what stands at a position (from 0) of the list is this shard's."""
        return self.owner(position) == self.number

    def owner(self, position: int) -> int:
        """The number of the shard that has what stands at a position (from 0) of the list."""
        return position % self.count + 1

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Its share of a list: every so many-th item."""
        return items[self.number - 1 :: self.count]

    @property
    def all(self) -> list[Shard]:
        """Every shard of the same work, this one among them."""
        return [Shard(number, self.count) for number in range(1, self.count + 1)]

    def named(self, numbers: Iterable[int]) -> str:
        """Shards of the same work in words: `shard 1/4`, `shards 1/4 and 3/4`."""
        names = [f"{number}/{self.count}" for number in sorted(set(numbers))]
        if len(names) == 1:
            return f"shard {names[0]}"
        return f"shards {', '.join(names[:-1])} and {names[-1]}"


MOST_LOTS = 64
"""into which a cluster's work is divided: each opens its sources anew"""


def lots(count: int, *, of: int) -> int:
    """Into how many shards a cluster's work on so many items is divided: about `of` items each, whoever does them.

    It does not follow the size of the cluster, so that another one goes on with what is there.
    """
    return max(1, min(MOST_LOTS, math.ceil(count / of)))


WHOLE = Shard(1, 1)
"""all of some work"""


def read_shard(text: str) -> Shard:
    """The shard that `I/N` names; a `UserError` where it is written otherwise or not among 1..N."""
    written = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if written is None:
        raise UserError(f"--shard {text}: write it as I/N, such as 2/4 for the second of four")
    shard = Shard(int(written[1]), int(written[2]))
    if not 1 <= shard.number <= shard.count:
        raise UserError(
            f"--shard {text}: of {shard.count} shards the first is 1/{shard.count} and the last "
            f"{shard.count}/{shard.count} (for an array of jobs: --array=1-{shard.count})"
        )
    return shard
