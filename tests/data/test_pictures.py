import cv2
import numpy as np
import pytest

from posestill.data.image_files import with_orientation
from posestill.data.pictures import Picture, Pictures, hold_out
from posestill.draw import encode_image
from posestill.schema import UserError
from tests.networks import photo, write_photos, write_video


def names(pictures):
    return [each.name for each in pictures.all]


def test_a_folder_is_read_with_its_folders_in_the_order_of_the_numbers_in_names(tmp_path):
    write_photos(tmp_path / "b", 11)
    write_photos(tmp_path / "a" / "deep", 2)
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    write_photos(tmp_path / ".thumbnails", 1)
    (tmp_path / "b" / "._1.png").write_bytes(b"what a Mac leaves beside")
    pictures = Pictures([tmp_path])
    assert names(pictures)[:6] == ["1.png", "2.png", "1.png", "2.png", "3.png", "4.png"]
    assert names(pictures)[-2:] == ["10.png", "11.png"]
    assert len(pictures) == 13
    np.testing.assert_array_equal(pictures.read(2), photo(1))
    assert pictures.all[2].group == str(tmp_path / "b")


def test_files_and_folders_can_be_listed_and_come_once(tmp_path):
    write_photos(tmp_path, 3)
    assert names(Pictures([tmp_path / "2.png", tmp_path])) == ["2.png", "1.png", "3.png"]


def test_pictures_are_turned_as_exif_says(tmp_path):
    (tmp_path / "turned.jpg").write_bytes(with_orientation(encode_image(photo(1, (60, 40))), 6))
    pictures = Pictures([tmp_path])
    assert pictures.all[0].size == (40, 60)
    assert pictures.read(0).shape == (40, 60, 3)


def test_files_that_are_no_pictures_are_left_out_and_remembered(tmp_path):
    write_photos(tmp_path, 2)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    pictures = Pictures([tmp_path])
    assert len(pictures) == 2
    assert [path.name for path in pictures.unreadable] == ["broken.jpg"]
    with pytest.raises(UserError, match=r"none of the 1 pictures can be decoded, .*broken\.jpg first"):
        Pictures([tmp_path / "broken.jpg"])


def test_what_holds_no_picture_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no pictures, nor do the folders in it \(\.jpg, .*\.mp4"):
        Pictures([tmp_path])
    with pytest.raises(UserError, match="no folder, picture or video .*gone: correct the path"):
        Pictures([tmp_path / "gone"])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"a\.txt is neither a folder nor a picture nor a video"):
        Pictures([tmp_path / "a.txt"])


def test_of_a_video_every_so_many_th_frame_is_kept(tmp_path):
    video = write_video(tmp_path / "v.avi", 25)
    pictures = Pictures([video], frame_step=10)
    assert names(pictures) == ["v.avi, frame 0", "v.avi, frame 10", "v.avi, frame 20"]
    assert pictures.all[0].size == (60, 40)
    assert pictures.all[0].apart == 2  # two seconds of 10 frames, of which every tenth is kept
    assert np.abs(pictures.read(1).astype(int) - photo(10)).mean() < 8  # compressed twice
    assert pictures.encoded(0)[:2] == b"\xff\xd8"


def test_a_video_that_ends_early_or_cannot_be_opened_is_refused(tmp_path):
    whole = write_video(tmp_path / "whole.avi", 40).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.avi (ends early, after \d+ of 40 frames|cannot be opened)"):
        Pictures([tmp_path / "cut.avi"])
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"none\.mp4 cannot be opened: it may be cut off, or OpenCV lacks its codec"):
        Pictures([tmp_path / "none.mp4"])


class EndsEarly:
    """A video that promises 100 frames and has fewer."""

    promised, left = 100.0, 60

    def __init__(self, path):
        pass

    def isOpened(self):
        return True

    def get(self, what):
        return self.promised if what == cv2.CAP_PROP_FRAME_COUNT else 25.0

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.zeros((8, 8, 3), dtype=np.uint8)

    def release(self):
        pass


def test_frames_that_are_promised_and_missing_are_told(tmp_path, monkeypatch):
    (tmp_path / "v.mp4").write_bytes(b"")
    monkeypatch.setattr(cv2, "VideoCapture", EndsEarly)
    with pytest.raises(UserError, match=r"v\.mp4 ends early, after 60 of 100 frames: fetch it again, or cut it anew"):
        Pictures([tmp_path / "v.mp4"])


def test_a_video_without_a_frame_is_told(tmp_path, monkeypatch):
    (tmp_path / "v.mp4").write_bytes(b"")
    monkeypatch.setattr(cv2, "VideoCapture", EndsEarly)
    monkeypatch.setattr(EndsEarly, "left", 0)
    monkeypatch.setattr(EndsEarly, "promised", 0.0)  # some containers do not say
    with pytest.raises(UserError, match=r"v\.mp4 holds no frame that can be decoded: fetch it again"):
        Pictures([tmp_path / "v.mp4"])


def test_frames_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("posestill.data.pictures._MOST_BYTES", 1000)
    video = write_video(tmp_path / "v.avi", 100)
    with pytest.raises(
        UserError, match=r"the frames of .*v\.avi take more than .* raise frame_step, or write them into"
    ):
        Pictures([video], frame_step=1)


def of_folders(tmp_path, **counts):
    return [
        Picture(tmp_path / folder / f"{number}.png", (9, 9))
        for folder, count in counts.items()
        for number in range(count)
    ]


def test_whole_folders_are_held_out_where_there_are_several(tmp_path):
    split = hold_out(of_folders(tmp_path, a=30, b=10, c=40, d=12), 0.1)
    assert split.held_out.tolist() == list(range(80, 92))
    assert split.train.tolist() == list(range(80))
    assert split.how == "held out: whole folders or videos, d (12 of 92 pictures)"


def test_folders_too_large_for_the_share_are_passed_over(tmp_path):
    split = hold_out(of_folders(tmp_path, a=30, b=6, c=5, d=60), 0.1)
    assert split.held_out.tolist() == list(range(30, 41))


def test_of_one_folder_the_last_pictures_are_held_out_after_a_gap(tmp_path):
    split = hold_out(of_folders(tmp_path, a=100), 0.2)
    assert split.held_out.tolist() == list(range(80, 100))
    assert split.train.tolist() == list(range(78))  # a tenth of what is held out lies between
    assert "from 80.png on; a gap of 2 before them" in split.how


def test_of_two_large_folders_the_last_pictures_are_held_out(tmp_path):
    assert hold_out(of_folders(tmp_path, a=50, b=50), 0.1).held_out.tolist() == list(range(90, 100))


def test_of_a_video_the_last_part_is_held_out_after_two_seconds(tmp_path):
    frames = [Picture(tmp_path / "v.mp4", (9, 9), frame=10 * number, apart=6) for number in range(50)]
    split = hold_out(frames, 0.1)
    assert split.held_out.tolist() == list(range(45, 50))
    assert split.train.tolist() == list(range(39))


def test_too_few_pictures_to_hold_some_out_are_refused(tmp_path):
    with pytest.raises(UserError, match="2 pictures with people are too few to hold some out"):
        hold_out(of_folders(tmp_path, a=2), 0.1)
