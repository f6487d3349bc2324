"""Which layout a file has, by the names and shapes of what goes in and comes out."""

from __future__ import annotations

from posestill.schema import UserError
from posestill.teachers.runtime import Port, RuntimeNetwork


def recognised(network: RuntimeNetwork) -> str:
    """The name of the layout; a `UserError` that names the possible ones where the file alone cannot tell."""
    outputs = {each.name: each for each in network.outputs}
    shapes = [each.shape for each in network.outputs]
    one = shapes[0] if len(shapes) == 1 else None
    if any(shape[-3:] == (1, 17, 3) for shape in shapes) and "keypoints" in outputs:
        return "movenet"
    if any(shape[-2:] == (6, 56) for shape in shapes):
        return "movenet-multipose"
    if any(shape[-1:] == (195,) for shape in shapes):
        return "blazepose"
    if {"simcc_x", "simcc_y"} <= set(outputs):
        return _with_bins(network, outputs["simcc_x"])
    if {"dets", "labels", "keypoints"} <= set(outputs):
        return "rf-detr"
    if {"dets", "keypoints"} <= set(outputs):
        return "rtmo"
    if one is not None and len(one) == 3 and (one[1] == 56 or one[2] == 57):
        return "yolo-pose"
    if one is not None and len(one) == 4:
        raise _ambiguous(
            network, "draws heatmaps", ("hrnet", "vitpose", "simple-baselines"),
            "they differ in grid, colours and decoder",
        )  # fmt: skip
    if one is not None and len(one) == 3 and one[2] == 2:
        return "deeppose"
    raise UserError(
        f"teacher.layout: what {network.path.name} wants and gives is not known ({network.describe()}): name a layout, "
        "or describe it in a YAML file (docs/training.md)"
    )


def _with_bins(network: RuntimeNetwork, x: Port) -> str:
    if x.shape[1:2] == (133,):
        raise _ambiguous(network, "has 133 keypoints in bins", ("rtmpose", "rtmw"), "they differ in how sure they are")
    return "rtmpose-384" if x.shape[-1:] == (576,) else "rtmpose"


def _ambiguous(network: RuntimeNetwork, what: str, names: tuple[str, ...], how: str) -> UserError:
    return UserError(
        f"teacher.layout: {network.path.name} {what} and may be {', '.join(names[:-1])} or {names[-1]}; {how}, which "
        "the file does not tell: say which (`posestill teacher check` compares them on labelled persons)"
    )
