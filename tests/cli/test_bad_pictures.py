"""Pictures that are none, or not whole, or not for this, against every verb that reads pictures."""

import hashlib
import json
import os
import shutil
import socket
import warnings
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image

from posestill.data.image_files import image_size, read_image, with_orientation
from posestill.data.synthetic.sample import write_sample
from posestill.draw import encode_image
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from tests.conftest import small_model
from tests.data.test_image_files import bmp_of, jpeg_of, png_of, saved, tiff_of
from tests.networks import write_teacher

NOISE = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
TWELVE_BITS = (NOISE[..., 0].astype(np.uint16)) << 3
WHOLE = {kind: saved(Image.fromarray(NOISE), kind) for kind in ("JPEG", "PNG", "WebP", "TIFF", "BMP")}

CONTENTS = {
    "empty": b"",
    "text": b"no picture",
    "a page of a server": b"<!DOCTYPE html><html><body>404</body></html>",
    "a pointer of git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "zeros": bytes(5000),
    "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "a GIF's beginning": b"GIF89a\1\0\1\0",
    "a HEIC's beginning": b"\0\0\0\x18ftypheic" + bytes(60),
    "JSON": b"{}",
    **{f"{kind} cut to {share:.0%}": data[: int(share * len(data))]
       for kind, data in WHOLE.items() for share in (0.01, 0.2, 0.5, 0.95)},
    "a turned JPEG cut off": with_orientation(encode_image(NOISE), 6)[:900],
    "a progressive JPEG cut off": saved(Image.fromarray(NOISE), "JPEG", progressive=True)[:1500],
    "a JPEG without its end": WHOLE["JPEG"][:-2],
    "a PNG without its end": WHOLE["PNG"][:-12],
    **{f"{kind} of {size} px": make(size, size) for kind, make in
       {"PNG": png_of, "JPEG": jpeg_of, "BMP": bmp_of, "TIFF": tiff_of}.items() for size in (50000, 30000)},
    "a PNG of 2^31 - 1 px": png_of(2**31 - 1, 2**31 - 1),
    "a BMP of -50000 px": bmp_of(50000, -50000),
    "a PNG of no px": png_of(0, 0),
    "twelve bits as PNG": saved(Image.fromarray(TWELVE_BITS), "PNG"),
    "twelve bits as TIFF": saved(Image.fromarray(TWELVE_BITS), "TIFF"),
    "a PNG whose pixels are others": WHOLE["PNG"][:60] + bytes(len(WHOLE["PNG"]) - 80) + WHOLE["PNG"][-20:],
}  # fmt: skip


def pipe(path):
    os.mkfifo(path)


def a_folder(path):
    path.mkdir()


def a_link_to_itself(path):
    path.symlink_to(path)


def a_link_to_nothing(path):
    path.symlink_to(path.with_name("gone"))


def a_link_to_a_device(path):
    path.symlink_to("/dev/zero")


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made, warnings.catch_warnings():
        made.bind(os.path.relpath(path))


KINDS = {make.__name__.replace("_", " "): make for make in (
    pipe, a_folder, a_link_to_itself, a_link_to_nothing, a_link_to_a_device, a_socket,
)}  # fmt: skip
CASES = {**CONTENTS, **KINDS}
BAD = "000000000015.jpg"
"""of the validation pictures 13 to 16"""
DATA = ("--annotations", "gt.json", "--images", "val")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_sample(folder / "data", pictures=16)
    shutil.move(folder / "data/val", folder / "val")
    shutil.copyfile(folder / "data/annotations/person_keypoints_val.json", folder / "gt.json")
    shutil.rmtree(folder / "data")
    small_model(skeleton=COCO_17).save(folder / "model")
    write_teacher(folder / "teacher.onnx")
    source = "{name: coco, annotations: gt.json, images: val}"
    (folder / "recipe.yaml").write_text(
        f"data: {{train: {source}, val: {source}}}\n"
        "model: {size: [32, 24], backbone: {name: small_resnet, channels: [8, 16], max_pool: false}, head: flat_fc, "
        "codec: coords}\nmethod: supervised\ntrain: {steps: 9, batch_size: 8}\n"
    )
    return folder


def make(case, path):
    made = CASES[case]
    path.write_bytes(made) if isinstance(made, bytes) else made(path)


@pytest.fixture
def place(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("case", CASES)
def test_a_bad_picture_is_refused_in_one_line_that_names_it(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    make(case, tmp_path / "a.png")
    with pytest.raises(UserError, match=r"^image a.png [^\n]+$"):
        read_image("a.png")
    with suppress(UserError):  # a header may promise what does not follow
        image_size("a.png")


def test_bad_pictures_are_passed_over_by_predict_and_all_named_by_data_check(posestill, place):
    truth = {**json.loads((place / "gt.json").read_text()), "images": [], "annotations": []}
    for number, case in enumerate(CASES, start=100):
        make(case, place / "val" / f"{number}.png")
        truth["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
    (place / "bad.json").write_text(json.dumps(truth))
    before = hashes(place)
    numbers = {number for number, case in enumerate(CASES, start=100) if case != "a folder"}
    status, out, err = posestill("predict", "model", "val", "--out", "../drawn")
    assert (status, "in 4 images" in out) == (1, True), err
    lines = [line for line in err.splitlines() if line.startswith("passed over: ")]
    assert {int(line.split("val/")[1].split(".png ")[0]) for line in lines} == numbers
    assert len(list((place.parent / "drawn").glob("*.png"))) == 4
    status, out, err = posestill("data", "check", "bad.json", "--images", "val", "--sheet", "../sheet.png")
    found = next(line for line in out.splitlines() if "[image-undecodable]" in line)
    missing = next(line for line in out.splitlines() if "[image-missing]" in line)
    assert status == 1
    assert int(found.split("(")[-1][:-2]) == sum(case in CONTENTS for case in CASES)
    assert int(missing.split("(")[-1][:-2]) == len(KINDS)
    assert hashes(place) == before


@pytest.mark.parametrize("case", ["text", "JPEG cut to 50%", "PNG of 30000 px", "twelve bits as PNG", "pipe"])
def test_a_bad_picture_ends_what_measures_and_what_trains_on_few_and_is_left_out_of_labels(posestill, place, case):
    truth = json.loads((place / "gt.json").read_text())
    listed = next(entry for entry in truth["images"] if entry["id"] == 15)
    (place / "val" / listed["file_name"]).unlink()
    make(case, place / "val" / BAD)
    listed["file_name"] = BAD
    (place / "gt.json").write_text(json.dumps(truth))
    before = hashes(place)
    status, _, err = posestill("evaluate", "model", *DATA, "--json", "../figures.json")
    assert (status, BAD in err.splitlines()[-1], "Traceback" in err) == (2, True, False), err
    status, _, err = posestill("train", "recipe.yaml", "--out", "../run")
    assert (status, BAD in err.splitlines()[-1], "1 of the " in err.splitlines()[-1]) == (2, True, True), err
    if case != "pipe":
        status, _, err = posestill("label", "val", "--teacher", "teacher.onnx", "--out", "../labels.json")
        assert (status, BAD in err) == (1, True), err
        named = {entry["file_name"] for entry in json.loads((place.parent / "labels.json").read_text())["images"]}
        assert (len(named), BAD in named) == (3, False)
    assert hashes(place) == before


NAMES = {
    "long": "x" * 5000 + ".jpg",
    "long folders": "x/" * 3000 + "a.jpg",
    "half a surrogate pair": "\ud83d.jpg",
    "a byte of no encoding": "\udcff.jpg",
    "nul": "a\0.jpg",
    "nothing": "",
    "a folder": ".",
    "the folder above": "..",
    "the root": "/",
    "a terminal's orders": "\x1b[2J\x1b]0;title\x07.jpg",
    "several lines": "a.jpg\nposestill: all is well",
    "a device": "/dev/zero",
    "memory": "/proc/self/mem",
    "a process": "/proc/1/root/a.jpg",
    "right to left": "\u202egpj.exe",
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_bad_name_of_a_picture_is_one_line_of_plain_characters(posestill, place, name):
    truth = json.loads((place / "gt.json").read_text())
    truth["images"][1]["file_name"] = NAMES[name]
    (place / "gt.json").write_text(json.dumps(truth))
    before = hashes(place)
    commands = (
        ("evaluate", "model", *DATA),
        ("data", "check", "gt.json", "--images", "val", "--sheet", "../sheet.png", "--fix", "../fixed"),
        ("predict", "model", "val", "--boxes", "gt.json", "--out", "../drawn"),
    )
    for command in commands:
        status, out, err = posestill(*command)
        # `predict` looks at other pictures, unless the name is none that a file can have.
        assert status in {"data": (1,), "predict": (0, 2)}.get(command[0], (2,)), (command, out, err)
        assert "Traceback" not in err
        assert all(each.isprintable() or each in "\n\t" for each in out + err), (command, out, err)
        assert len((err.splitlines() or [""])[-1]) < 6000
        assert "\nposestill: all is well" not in err
    assert hashes(place) == before
    assert {path.name for path in place.parent.iterdir()} <= {"here", "sheet.png", "fixed", "drawn", ".posestill"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_a_drawing_stands_upright_whatever_the_file_of_the_photograph(posestill, prepared, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(tmp_path / f"a.{kind.lower()}", exif=exif)
    status, _, err = posestill("predict", prepared / "model", f"a.{kind.lower()}", "--out", "drawn")
    assert (status, cv2.imread("drawn/a.png").shape) == (0, (64, 48, 3)), err
