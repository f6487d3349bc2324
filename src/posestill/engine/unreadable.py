"""Pictures that cannot be read while a run trains: others stand in, each is named once, and too many stop the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from posestill.data.topdown import TopDownDataset, Unreadable
from posestill.engine.log import RunLog
from posestill.schema import UserError
from posestill.types import PoseBatch

MOST_UNREADABLE = 0.01
"""the share of the pictures beyond which a run on the others would be another run"""


class PassedOver:
    """Which pictures of a run could not be read so far, as its batches tell."""

    def __init__(self, dataset: TopDownDataset, log: RunLog) -> None:
        self.dataset, self.log = dataset, log
        self.found: dict[int, str] = {}
        """image id -> what is wrong"""
        self.pictures = len({dataset.person(index).image_id for index in range(len(dataset))})
        for index in dataset.unreadable:  # crops in memory were all cut already
            self._note(index, 0)

    def look(self, step: int, wanted: Sequence[tuple[int, int]], batch: PoseBatch) -> None:
        """Note in whose place others stand in the batch of some (epoch, index) pairs; a `UserError` where too many."""
        for (_, asked), given in zip(wanted, batch.index.tolist(), strict=True):
            if asked != given:
                self._note(asked, step)

    def _note(self, index: int, step: int) -> None:
        image_id = self.dataset.person(index).image_id
        if image_id in self.found:
            return
        message = self.dataset.unreadable.get(index, "")
        if not message:  # a process that cuts crops found it
            message = f"image {image_id} could not be read for a while"
            try:
                self.dataset.read(index)
            except Unreadable as error:
                message = str(error)
        self.found[image_id] = message
        self.log.say(f"passed over, and the next person of the order taken: {message} ({len(self.found)} so far)")
        self.log.row({"step": step, "unreadable": message})
        refuse_many(self.found, self.pictures)


def refuse_many(unreadable: Mapping[int, str], pictures: int) -> None:
    """A `UserError` where more than one in a hundred of some pictures could not be read."""
    if len(unreadable) > MOST_UNREADABLE * pictures:
        first = next(iter(unreadable.values()))
        raise UserError(
            f"{len(unreadable)} of the {pictures} pictures cannot be read, more than {100 * MOST_UNREADABLE:.0f} %: "
            f"fetch them again, or take them out of the data; the first: {first}"
        )
