"""The keypoints of a network that transformers saved, as its settings tell them: `id2label`, `edges`, `flip_pairs`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posestill.keypoints.names import partner_of, same_keypoint
from posestill.schema import reading
from posestill.skeletons import COCO_17, COCO_WHOLEBODY, Skeleton, known_sigmas


def saved_skeleton(settings: Mapping[str, Any], count: int, numbered: Callable[[int], Skeleton]) -> Skeleton:
    """The keypoints of a network that has `count` of them: COCO's own where its names mean these.

    `numbered` says which they are where the settings only number them.
    """
    labels = settings.get("id2label") or {}
    with reading("the id2label, edges or flip_pairs of the network"):
        names = tuple(str(name) for _, name in sorted(labels.items(), key=lambda entry: int(entry[0])))
        pairs = settings.get("flip_pairs")
        if len(names) != count or all(re.fullmatch(r"LABEL_\d+", name) for name in names):
            found = numbered(count)
            if pairs is None:
                return found
            return found.model_copy(update={"swap": _swap(found.names, pairs), "partners_known": True})
        for known in (COCO_17, COCO_WHOLEBODY):
            if [same_keypoint(name, known.names) for name in names] == list(known.names):
                return known
        edges = settings.get("edges") or settings.get("keypoint_edges") or ()
        swap = _swap(names, pairs)
        return Skeleton(
            names=names,
            swap=swap,
            partners_known=pairs is not None or swap != tuple(range(count)),
            edges=tuple((int(start), int(end)) for start, end in edges),
            oks_sigmas=tuple(known_sigmas(names)),
        )


def spelled_out(skeleton: Skeleton) -> dict[str, Any]:
    """A skeleton as the settings of transformers tell it."""
    pairs = [[index, partner] for index, partner in enumerate(skeleton.swap) if index < partner]
    return {
        "id2label": {str(index): name for index, name in enumerate(skeleton.names)},
        "label2id": {name: index for index, name in enumerate(skeleton.names)},
        "edges": [list(edge) for edge in skeleton.edges],
        "flip_pairs": pairs,
    }


def _swap(names: Sequence[str], pairs: Sequence[Sequence[int]] | None) -> tuple[int, ...]:
    """Partners as told or, without a word of it, by the sides in the names; whoever has none is its own."""
    if pairs is None:
        partners = [partner_of(name, names) for name in names]
        pairs = [
            (index, names.index(partner))
            for index, partner in enumerate(partners)
            if partner is not None and partners[names.index(partner)] == names[index]
        ]
    swap = list(range(len(names)))
    for one, other in pairs:
        swap[one], swap[other] = other, one
    return tuple(swap)
