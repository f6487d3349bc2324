"""Which layout a file has, by the names and shapes of what goes in and comes out."""

from __future__ import annotations

from posestill.schema import UserError
from posestill.teachers.one_stage import MoveNetMultiPose, RfDetr, Rtmo, YoloPose
from posestill.teachers.runtime import Port, RuntimeNetwork

_DRAWN = ("hrnet", "vitpose", "simple-baselines")


def candidates(network: RuntimeNetwork) -> tuple[str, ...]:
    """The names of the layouts that a file may have; none where its form is not known."""
    if len(network.inputs) != 1 or len(network.inputs[0].shape) != 4:
        return ()
    outputs = {each.name: each.shape for each in network.outputs}
    takes_last = network.inputs[0].shape[-1] == 3  # colours
    if takes_last:
        if any(shape[-3:] == (1, 17, 3) for shape in outputs.values()):
            return ("movenet",)
        if any(shape[-2:] == (6, 56) for shape in outputs.values()):
            return (MoveNetMultiPose.name,)
        return ("blazepose",) if any(shape[-1:] == (195,) for shape in outputs.values()) else ()
    if {"simcc_x", "simcc_y"} <= set(outputs):
        return _with_bins(network.inputs[0], outputs["simcc_x"])
    # RF-DETR has RTMO's two names, too.
    found = [each.name for each in (RfDetr, Rtmo, YoloPose) if each.find_output(outputs) is not None]
    if found:
        return (found[0],)
    shape = next(iter(outputs.values())) if len(outputs) == 1 else ()
    if len(shape) == 4:
        return _DRAWN
    return ("deeppose",) if len(shape) == 3 and shape[2] == 2 else ()


def recognised(network: RuntimeNetwork) -> str:
    """The name of the layout; a `UserError` that names the possible ones where the file alone cannot tell."""
    found = candidates(network)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f"teacher.layout: what {network.path.name} wants and gives is not known ({network.describe()}): name a "
            "layout (`posestill list layouts`), or describe it in a YAML file (docs/own-layout.md)"
        )
    what, how = (
        ("draws heatmaps", "grid, colours and decoder")
        if found == _DRAWN
        else ("has 133 keypoints in bins", "how sure they are")
    )
    raise UserError(
        f"teacher.layout: {network.path.name} {what} and may be {', '.join(found[:-1])} or {found[-1]}, which differ "
        f"in {how}; the file does not tell: say which (`posestill teacher check` tries them on labelled persons)"
    )


def _with_bins(port: Port, x: tuple[int | None, ...]) -> tuple[str, ...]:
    """By the size of the input, and by the number of keypoints: of 133 there are networks with and without a beta."""
    suffix = "-384" if port.shape[2] == 384 or x[-1:] == (576,) else ""
    return tuple(f"{name}{suffix}" for name in (("rtmpose", "rtmw") if x[1:2] == (133,) else ("rtmpose",)))
