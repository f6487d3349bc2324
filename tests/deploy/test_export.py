from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posestill.deploy import decoder, export, gate
from posestill.deploy.export import DECODERS, People, Wanted, export_model, exported_files
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.sidecar import read_sidecar
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from tests.conftest import DotSource, small_model
from tests.deploy.conftest import a_model

TORCH = Wanted([TARGETS["pt2"]], ["fp32"])


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(gate, "ROUNDS", 3)
    monkeypatch.setattr(export, "SYNTHETIC", 12)


def test_files_sidecars_decoders_and_the_gates_figures_are_put_in_place_together(tmp_path):
    out = tmp_path / "made" / "out"
    found = export_model(small_model(skeleton=COCO_17).eval(), TORCH, out, People())
    assert not found.failed
    names = {path.name for path in out.iterdir()}
    assert names == {"model-fp32.pt2", "model-fp32.pt2.json", "gate.json", *DECODERS}
    assert (out / DECODERS[0]).read_text() == Path(decoder.__file__).read_text()
    assert "export function decode" in (out / DECODERS[1]).read_text()
    told = read_sidecar(out / "model-fp32.pt2")["gate"]
    assert told["passes"] is True
    assert told["persons"] == 12
    assert exported_files(out) == [out / "model-fp32.pt2"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_file_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "decode", lambda outputs, told: np.zeros((len(outputs["maps"]), 17, 3)))
    found = export_model(small_model(skeleton=COCO_17).eval(), TORCH, tmp_path / "out", People())
    assert [row.drifted for row in found.failed] == ["decoding"]
    assert not list(tmp_path.iterdir())


def test_an_export_that_is_broken_off_leaves_nothing(tmp_path, monkeypatch):
    def stopped(*given, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "judge", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_model(small_model(skeleton=COCO_17).eval(), TORCH, tmp_path / "out", People())
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="out is there already"):
        export_model(a_model("coords"), TORCH, tmp_path / "out", People(DotSource(4)))
    assert (tmp_path / "out" / "mine").read_text() == "mine"


@pytest.mark.slow
def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert not export_model(a_model("coords"), TORCH, tmp_path / "out", People(DotSource(4))).failed
    assert (tmp_path / "out" / "gate.json").is_file()


def test_keypoints_of_model_and_data_must_be_the_same(tmp_path):
    model = small_model(skeleton=COCO_17).eval()
    with pytest.raises(UserError, match=r"the model has 17 keypoints \(nose, .* and the validation data 4 \(top"):
        export_model(model, TORCH, tmp_path / "out", People(DotSource(4)))


def test_data_without_labels_cannot_judge(tmp_path):
    with pytest.raises(UserError, match="have no labelled person"):
        export_model(a_model("coords"), TORCH, tmp_path / "out", People(DotSource(4, unlabelled=4)))


def test_eight_bits_need_enough_persons(tmp_path):
    wanted = Wanted([TARGETS["onnx"]], ["int8"])
    with pytest.raises(UserError, match="at least 300 persons, and the data have 4"):
        export_model(a_model("coords"), wanted, tmp_path / "out", People(DotSource(4)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_some_persons_are_evenly_spaced(tmp_path):
    found = export_model(a_model("coords"), TORCH, tmp_path / "out", People(DotSource(20), count=5))
    assert found.persons == 5


@pytest.mark.slow
def test_eight_bits_pass_the_gate_by_agreement_in_both_runtimes(tmp_path):
    for package in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    wanted = Wanted([TARGETS["onnx"], TARGETS["openvino"]], ["fp32", "int8"], tolerance=5.0)
    found = export_model(small_model("coords", skeleton=COCO_17).eval(), wanted, tmp_path / "out", People())
    assert [row.file for row in found.rows] == [
        "model-fp32.onnx", "model-int8.onnx", "model-fp32.xml", "model-int8.xml",
    ]  # fmt: skip
    assert not found.failed
    assert all(row.px_median > 1e-4 for row in found.rows[1::2])


def test_a_file_that_fails_in_half_precision_is_judged_again_calculating_in_single(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    real, calculated, said = export.judge, [], []

    def strict(model, files, *given, **settings):
        calculated.append(read_sidecar(files[0])["calculates"])
        found = real(model, files, *given, **settings)
        lost = 5.0 if calculated[-1] == "bf16" else 0.0
        return replace(found, rows=tuple(replace(row, lost=lost) for row in found.rows))

    monkeypatch.setattr(export, "judge", strict)
    wanted = Wanted([TARGETS["openvino"]], ["fp16"])
    found = export_model(small_model(skeleton=COCO_17).eval(), wanted, tmp_path / "out", People(), say=said.append)
    assert not found.failed
    assert calculated == ["bf16", "f32"]
    assert read_sidecar(tmp_path / "out" / "model-fp16.xml")["calculates"] == "f32"
    assert "OpenVINO fp16 loses 5.00 points where it calculates in bf16: it is judged in f32" in said
