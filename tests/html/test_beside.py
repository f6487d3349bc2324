from dataclasses import replace

import numpy as np

from posestill.engine.beside import Beside, Cost
from posestill.engine.judged import Judged, OnLabels, Poses
from posestill.evaluation.agreement import Agreement, Range
from posestill.html.beside import agreement_parts, cost_parts, keypoint_parts, told
from tests.conftest import DotSource
from tests.html.parsed import cells, parsed

STUDENT = Cost(size=(32, 24), milliseconds=2.04, fastest=1.9, slowest=2.5, bytes=1_000_000, parameters=250_000)
TEACHER = Cost(size=(64, 48), milliseconds=15.0, fastest=14.0, slowest=19.0, bytes=12_500_000, parameters=None)
AROUND = {"gpu": None, "processor": "A CPU", "torch": "2.9"}
NAN = float("nan")


def on_labels(teacher=True):
    source, places = DotSource(3), np.zeros((3, 4, 2))
    return OnLabels(
        poses=Poses(source, source.people, places, places), of=30, boxes="ground truth", keypoints=("top", "bottom"),
        student=Judged(0.5, 0.6, {"top": 0.9, "left_side": NAN, "bottom": 0.2}),
        teacher=Judged(0.8, 0.9, {"top": 0.95, "left_side": NAN, "bottom": 0.7}) if teacher else None,
    )  # fmt: skip


def beside(**changes):
    whole = Beside(student=STUDENT, teacher=TEACHER, threads=2, device="cpu", on_labels=on_labels(), held=None)
    return replace(whole, **changes)


def test_keypoints_are_shown_worst_first_with_the_teachers_beside():
    found = parsed("".join(keypoint_parts(on_labels())))
    assert found.one("h2").text == "Accuracy by keypoint"
    assert "3 people with labels, spread evenly over the 30 there are. Both were shown" in found.one("p").text
    assert cells(found.one("table")) == [
        ["keypoint", "student x 100", "teacher x 100"],
        ["bottom", "20.0", "70.0"], ["top", "90.0", "95.0"], ["left side", "–", "–"],
    ]  # fmt: skip
    assert len(found.all("rect")) == 4
    assert {"student", "teacher", "bottom"} <= {each.text for each in found.all("text")}


def test_without_a_teacher_there_is_one_bar_a_keypoint():
    found = parsed("".join(keypoint_parts(on_labels(teacher=False))))
    assert len(found.all("rect")) == 2
    assert "teacher" not in found.text


def test_of_very_many_keypoints_the_worst_are_drawn_and_all_stand_in_the_table():
    many = {f"point {number}": number / 100 for number in range(60)}
    found = parsed("".join(keypoint_parts(replace(on_labels(teacher=False), student=Judged(0.5, 0.5, many)))))
    assert len(found.all("rect")) == 24
    assert "The 24 worst of 60 keypoints" in found.one("figcaption").text
    assert len(found.all("tr")) == 61


def test_agreement_is_told_by_keypoint_by_confidence_and_by_person():
    agreement = Agreement(
        by_keypoint={"nose": 0.9, "left_wrist": 0.4}, confidence={"nose": 0.8, "left_wrist": 0.5},
        by_confidence=(Range(0.0, 0.2, 7, NAN), Range(0.8, 1.0, 12, 0.75)), by_person=(Range(0.3, 0.9, 5, 0.5),),
    )  # fmt: skip
    found = parsed("".join(agreement_parts(agreement)))
    keypoints, ranges, persons = map(cells, found.all("table"))
    assert keypoints[1:] == [["left wrist", "40.0", "50.0"], ["nose", "90.0", "80.0"]]
    assert ranges[1:] == [["0.00 to 0.20", "7", "–"], ["0.80 to 1.00", "12", "75.0"]]
    assert persons[1:] == [["0.30 to 0.90", "5", "50.0"]]
    assert "ccuracy" not in found.text


def test_size_and_time_stand_with_the_hardware_that_they_were_measured_on():
    found = parsed("".join(cost_parts(beside(), AROUND)))
    assert cells(found.one("table"))[1:] == [
        ["student", "2.0", "1.9", "2.5", "32x24", "0.25 M", "1.0 MB"],
        ["teacher", "15.0", "14.0", "19.0", "64x48", "–", "12.5 MB"],
    ]
    assert "the median of 30, both in turn, on A CPU (cpu, 2 threads, torch 2.9)" in found.all("p")[-1].text
    alone = parsed("".join(cost_parts(beside(teacher=None, threads=1), {**AROUND, "processor": ""})))
    assert len(alone.all("tr")) == 2
    assert "the median of 30, on an unnamed processor (cpu, 1 thread, torch 2.9)" in alone.text
    graphics = cost_parts(beside(device="cuda"), {**AROUND, "gpu": "A GPU"})
    assert "on A GPU (cuda, " in graphics[-1]


def test_the_terminal_is_told_the_same():
    assert told(beside()) == [
        "on 3 people with labels: mean OKS 50.0, the teacher 80.0 (2 keypoints)",
        "2.0 ms a crop and 1.0 MB, the teacher 15.0 ms and 12.5 MB (2 thread(s), cpu)",
    ]
    assert told(beside(teacher=None, on_labels=on_labels(teacher=False))) == [
        "2.0 ms a crop and 1.0 MB (2 thread(s), cpu)"
    ]
