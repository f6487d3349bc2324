import numpy as np
import pytest

from posestill.deploy.quantise import check_enough, kept_in_float
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.write import Writer
from posestill.schema import UserError
from tests.deploy.conftest import a_model


def test_few_persons_are_refused():
    check_enough(300)
    with pytest.raises(UserError, match="--int8 is fitted to at least 300 persons, and the data have 299"):
        check_enough(299)


@pytest.mark.slow
def test_backbones_run_in_eight_bits_by_channel_while_first_layer_and_head_stay_in_float(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = a_model("coords")
    writer = Writer(model, tmp_path)
    crops = np.random.default_rng(0).integers(0, 256, (300, 3, 32, 24)).astype(np.float32)
    writer.write(TARGETS["onnx"], "fp32")
    graph = onnx.load(str(tmp_path / "model-fp32.onnx"))
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    kept = [node.op_type for node in layers if node.name in kept_in_float(graph)]
    assert kept == ["Conv", "Conv", "Gemm"]  # the first layer; the head's convolution and its linear layer
    quantised = onnx.load(str(writer.write(TARGETS["onnx"], "int8", [crops])))
    made_by = {name: node for node in quantised.graph.node for name in node.output}
    eight_bits = [
        node.input[1] in made_by and made_by[node.input[1]].op_type == "DequantizeLinear"
        for node in quantised.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
    ]
    assert eight_bits[0] is False
    assert eight_bits[-2:] == [False, False]
    assert all(eight_bits[1:-2])
    assert len(eight_bits) == len(layers)
    scales = {each.name: onnx.numpy_helper.to_array(each) for each in quantised.graph.initializer}
    assert eight_bits.count(True) >= 3
    second = [node for node in quantised.graph.node if node.op_type == "Conv"][1]
    assert scales[made_by[second.input[1]].input[1]].size > 1  # a scale for each channel
    assert not list(tmp_path.glob("*prepared*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["token", "simcc"])
def test_every_backbone_runs_in_eight_bits_whatever_its_head(tmp_path, kind):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    crops = np.random.default_rng(0).integers(0, 256, (300, 3, 32, 24)).astype(np.float32)
    path = Writer(a_model(kind), tmp_path).write(TARGETS["onnx"], "int8", [crops])
    nodes = onnx.load(str(path)).graph.node
    assert sum(node.op_type == "DequantizeLinear" for node in nodes) >= 3
