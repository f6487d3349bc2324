"""Known networks by what goes in and comes out, and the exact question where a file may be several."""

from pathlib import Path

import numpy as np
import pytest

from posestill.schema import UserError
from posestill.teachers.file import open_layout
from posestill.teachers.recognise import candidates, recognised
from posestill.teachers.runtime import Port, RuntimeNetwork
from tests.conftest import shared_folder


def network(shape, **outputs) -> RuntimeNetwork:
    """Ports alone."""
    made, kind = RuntimeNetwork(), np.dtype(np.float32)
    made.path, made.inputs = Path("some.onnx"), (Port("input", shape, kind),)
    made.outputs = tuple(Port(name, each, kind) for name, each in outputs.items())
    return made


BODY, LAST = (None, 3, 256, 192), (1, 256, 256, 3)
KNOWN = [
    ("movenet", LAST, {"keypoints": (1, 1, 17, 3)}),
    ("movenet", LAST, {"keypoints": (1, 1, 17, 3), "heatmaps": (1, 64, 64, 17), "offsets": (1, 64, 64, 34)}),
    ("movenet", (1, 192, 192, 3), {"StatefulPartitionedCall:0": (1, 1, 17, 3)}),
    ("movenet-multipose", (1, None, None, 3), {"people": (1, 6, 56)}),
    ("blazepose", LAST, {"Identity": (1, 195), "Identity_1": (1, 1), "Identity_3": (1, 64, 64, 39)}),
    ("rtmpose", BODY, {"simcc_x": (None, 17, 384), "simcc_y": (None, 17, 512)}),
    ("rtmpose", BODY, {"simcc_x": (None, 26, 384), "simcc_y": (None, 26, 512)}),
    ("rtmpose-384", (None, 3, 384, 288), {"simcc_x": (None, None, None), "simcc_y": (None, None, None)}),
    ("rtmo", (None, 3, 640, 640), {"dets": (None, None, 5), "keypoints": (None, None, 17, 3)}),
    ("yolo-pose", (1, 3, 640, 640), {"output0": (1, 56, 8400)}),
    ("yolo-pose", (None, 3, None, None), {"output0": (None, 56, None)}),
    ("yolo-pose", (1, 3, 640, 640), {"output0": (1, 300, 57)}),
    ("rf-detr", (1, 3, 576, 576), {"dets": (1, 100, 4), "labels": (1, 100, 2), "keypoints": (1, 100, 17, 8)}),
    ("deeppose", BODY, {"output": (None, 17, 2)}),
]


@pytest.mark.parametrize(("name", "shape", "outputs"), KNOWN)
def test_a_known_signature_has_its_layout(name, shape, outputs):
    assert recognised(network(shape, **outputs)) == name


AMBIGUOUS = [
    (BODY, {"heatmaps": (None, 17, 64, 48)}, ("hrnet", "vitpose", "simple-baselines"),
     "some.onnx draws heatmaps and may be hrnet, vitpose or simple-baselines, which differ in grid, colours and "
     "decoder; the file does not tell: say which (`posestill teacher check` tries them on labelled persons)"),
    (BODY, {"simcc_x": (None, 133, 384), "simcc_y": (None, 133, 512)}, ("rtmpose", "rtmw"),
     "some.onnx has 133 keypoints in bins and may be rtmpose or rtmw, which differ in how sure they are; "
     "the file does not tell: say which (`posestill teacher check` tries them on labelled persons)"),
    ((1, 3, 384, 288), {"simcc_x": (1, 133, 576), "simcc_y": (1, 133, 768)}, ("rtmpose-384", "rtmw-384"),
     "may be rtmpose-384 or rtmw-384"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "outputs", "names", "words"), AMBIGUOUS)
def test_where_a_file_may_be_several_they_are_named(shape, outputs, names, words):
    assert candidates(network(shape, **outputs)) == names
    with pytest.raises(UserError) as error:
        recognised(network(shape, **outputs))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        (BODY, {"a": (1, 1000)}),
        (BODY, {"a": (1, 17, 3)}),
        (LAST, {"a": (1, 17, 64, 48)}),
        ((1, 3, 640, 640), {"output": (1, 25500, 57)}),  # an older YOLO, whose rows are of another order
        (BODY, {"maps": (1, 17, 64, 48), "tags": (1, 17, 64, 48)}),
        ((1, 10), {"a": (1, 17, 2)}),
    ],
)
def test_a_signature_that_is_not_known_is_described(shape, outputs):
    with pytest.raises(UserError, match=r"what some\.onnx wants and gives is not known \(input \(") as error:
        recognised(network(shape, **outputs))
    assert "describe it in a YAML file (docs/own-layout.md)" in str(error.value)


def test_a_network_of_two_inputs_is_not_known():
    two = network(BODY, maps=(None, 17, 64, 48))
    two.inputs = (*two.inputs, Port("dataset_index", (None,), np.dtype(np.int64)))
    assert candidates(two) == ()
    with pytest.raises(UserError, match=r"hrnet has one input, and some\.onnx has: input .*, dataset_index"):
        open_layout(two, "hrnet")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("movenet-thunder.onnx", "movenet"),
        ("movenet-lightning.onnx", "movenet"),
        ("movenet-multipose.onnx", "movenet-multipose"),
        ("blazepose-lite.tflite", "blazepose"),
        ("blazepose-full.tflite", "blazepose"),
    ],
)
def test_published_files_are_recognised(file, name):
    from posestill.teachers.runtime import open_network

    path = shared_folder() / "models" / file
    if not path.is_file():
        pytest.skip(f"{file} is not on this machine")
    pytest.importorskip("onnxruntime" if path.suffix == ".onnx" else "openvino")
    assert open_layout(open_network(path)).name == name
