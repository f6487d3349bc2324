import cv2
import numpy as np

from posestill.doctor.examine import open_dataset
from posestill.doctor.sheet import draw_sheet
from posestill.draw import LEFT, RIGHT
from tests.doctor.planted import rewrite

CELL = (224, 176)
ORANGE, BLUE = np.array(LEFT[::-1]), np.array(RIGHT[::-1])  # as OpenCV reads them


def share(picture, colour):
    """How much of a picture has about this colour."""
    return (np.abs(picture.astype(int) - colour).max(axis=-1) < 12).mean()


def test_24_people_of_all_splits_stand_on_the_sheet_with_their_two_sides_in_two_colours(tiny_coco, tmp_path):
    assert draw_sheet(open_dataset(tiny_coco).annotation_sets, tmp_path / "new" / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    assert sheet.shape == (5 * CELL[0], 6 * CELL[1], 3)  # below them six that have no labels
    for row in range(4):
        for column in range(6):
            cell = sheet[row * CELL[0] : (row + 1) * CELL[0], column * CELL[1] : (column + 1) * CELL[1]]
            assert share(cell, ORANGE) > 0.005
            assert share(cell, BLUE) > 0.005


def test_a_sheet_of_few_people_has_one_row_with_white_at_its_end(tiny_coco, tmp_path):
    def keep_three(content):
        content["annotations"] = [each for each in content["annotations"] if each["num_keypoints"]][:3]

    root = rewrite(keep_three, tiny_coco, tmp_path / "few")
    (root / "annotations/person_keypoints_val.json").unlink()
    assert draw_sheet(open_dataset(root).annotation_sets, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (CELL[0], 6 * CELL[1], 3)
    assert (sheet[:, 3 * CELL[1] :] == 255).all()
    assert share(sheet[:, : 3 * CELL[1]], ORANGE) > 0.005


def test_what_cannot_be_drawn_is_left_out_and_nobody_at_all_makes_no_sheet(tiny_coco, tmp_path):
    def spoil(content):
        labelled = [each for each in content["annotations"] if each["num_keypoints"]]
        labelled[0]["bbox"] = None
        labelled[1]["keypoints"].pop()
        labelled[2]["bbox"][2] = 0
        labelled[3]["keypoints"][0] = float("nan")
        labelled[4]["image_id"] = 4242
        content["annotations"] = labelled[:5]

    root = rewrite(spoil, tiny_coco, tmp_path / "spoilt")
    (root / "annotations/person_keypoints_val.json").unlink()
    assert not draw_sheet(open_dataset(root).annotation_sets, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_people_are_drawn_whatever_else_is_wrong_with_their_category(tiny_coco, tmp_path):
    def spoil(content):
        category = content["categories"][0]
        category["keypoints"][1:3] = ["eye", "eye"]
        category["skeleton"] = [[1, 99], [0, 1], [6, 8, 9], [6, 8]]

    dataset = open_dataset(rewrite(spoil, tiny_coco, tmp_path / "spoilt"))
    assert draw_sheet(dataset.annotation_sets, tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (5 * CELL[0], 6 * CELL[1], 3)
