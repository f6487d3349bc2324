"""A cache that several machines fill: each keeps its chunks in a folder of its own until those of all are there.

In the folder of the cache:

    shards/2-of-4/   the same files as those of a cache, about every so many-th chunk of persons

Nobody but its own shard writes into such a folder. When all are whole, they are copied into the cache and removed.
"""

from __future__ import annotations

import shutil

import numpy as np

from posestill.cluster.shards import Shard
from posestill.teachers.store import Learn, Say, StoreInFolder


class StoreOfShard(StoreInFolder):
    """The answers about one shard's chunks of persons."""

    def __init__(self, whole: StoreInFolder, shard: Shard) -> None:
        self.numbers = shard.of(range(len(whole.chunks)))
        """of its chunks in the whole; none where there are more shards than chunks"""
        self._places = [whole.chunks[number] for number in self.numbers]
        persons = [person for places in self._places for person in places]
        super().__init__(
            whole.folder / "shards" / shard.file_name, whole.fields, table=whole.table[np.array(persons, dtype=int)],
            crops=whole.crops, described={**whole.described, "shard": str(shard)}, is_readable=whole.is_readable,
        )  # fmt: skip

    def persons_of(self, number: int) -> range:
        """See `Store.persons_of`."""
        return self._places[number]


def put_together(whole: StoreInFolder, shard: Shard, learn: Learn, say: Say) -> list[int]:
    """Copy the chunks of all shards into the whole; returns the numbers of those that are not there, and copies none.

    Any process may do so, and several at once: one does, and the others find it done.
    """
    parts = [StoreOfShard(whole, each) for each in shard.all]
    missing = [each.number for each, part in zip(shard.all, parts, strict=True) if part.chunks and part.found() is None]
    if whole.found() is not None:  # another has put them together meanwhile, and removed them
        return []
    if missing:
        return missing
    with whole.turn(learn, say):
        wanted = set(whole.missing)
        for part in parts:
            for own, (number, at) in enumerate(zip(part.numbers, part.chunks, strict=True)):
                if number in wanted:
                    rows = {name: each[at.start : at.stop] for name, each in part.arrays.items()}
                    whole.add(number, rows, passed_over=part.passed_over.get(own, ()))
    shutil.rmtree(whole.folder / "shards", ignore_errors=True)
    return []
