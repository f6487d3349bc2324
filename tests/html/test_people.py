import numpy as np

from posestill.draw import LEFT
from posestill.engine.judged import Poses
from posestill.html.people import PICTURE, draw_person, drawn_people, seen_by
from posestill.types import Person
from tests.conftest import DOTS, DotSource, small_model


def labels_of(source):
    return np.stack([person.keypoints[:, :2] for person in source.people])


def test_a_person_is_cut_out_and_its_pose_drawn_where_it_is_shown():
    person, places = DotSource(1).people[0], np.array([[10.0, 10], [40, 40], [20, 40], [30, 70]])
    picture = draw_person(np.zeros((80, 64, 3), np.uint8), person, places, np.arange(4) == 1, DOTS)
    assert picture.shape == (*PICTURE, 3)
    assert (picture == LEFT).all(axis=-1).any()
    nothing = draw_person(np.zeros((80, 64, 3), np.uint8), person, places * np.nan, np.ones(4, dtype=bool), DOTS)
    assert nothing.max() == 0


def test_of_a_whole_frame_the_person_in_it_is_shown():
    near = [[30.0, 30, 2], [40, 40, 2], [30, 40, 2], [35, 50, 2]]
    frame = Person(1, 1, np.array([0.0, 0, 200, 200]), np.array(near), 100.0)
    image = np.zeros((200, 200, 3), np.uint8)
    image[:, 100:] = 255
    places = np.full((4, 2), np.nan)
    seen = draw_person(image, frame, places, np.ones(4, dtype=bool), DOTS)
    assert seen.max() == 0  # what is white lies far from the person
    few = Person(1, 1, frame.bbox, np.array([*near[:3], [0.0, 0, 0]]), 100.0)
    assert draw_person(image, few, places, np.ones(4, dtype=bool), DOTS).max() == 255


def test_labels_teacher_and_student_stand_side_by_side_each_with_its_oks():
    source = DotSource(3)
    right = labels_of(source)
    poses = Poses(source, source.people, student=right + 1000, teacher=right)
    first, second = drawn_people(poses, [0, 2], truth="labels")
    assert [each.caption for each in first.drawings] == ["labels", "teacher, OKS 100.0", "student, OKS 0.0"]
    assert first.title == "Person 1 · teacher and student alike: 0.0"
    assert second.title.startswith("Person 3 ")


def test_without_a_teacher_or_with_its_answers_for_labels_there_are_two_pictures():
    source = DotSource(2)
    right = labels_of(source)
    alone = drawn_people(Poses(source, source.people, right, None), [0], truth="labels")
    assert [each.caption for each in alone[0].drawings] == ["labels", "student, OKS 100.0"]
    taught = drawn_people(Poses(source, source.people, right, right), [1], truth="teacher")
    assert [each.caption for each in taught[0].drawings] == ["teacher", "student, OKS 100.0"]
    assert taught[0].title == "Person 2"


def test_rows_of_people_show_the_labels_and_each_model():
    rows = seen_by({"one": small_model(), "two": small_model("coords")}, DotSource(9), count=3)
    assert [each.title for each in rows] == ["Person 1", "Person 5", "Person 9"]
    assert [[each.caption for each in row.drawings] for row in rows] == [["labels", "one", "two"]] * 3


def test_people_without_labels_are_passed_over():
    rows = seen_by({"one": small_model()}, DotSource(5, unlabelled=3), count=4)
    assert [each.title for each in rows] == ["Person 4", "Person 5"]
