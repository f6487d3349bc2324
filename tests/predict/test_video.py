import cv2
import numpy as np
import pytest

from posestill.files import Outputs
from posestill.predict.video import DrawnVideo, Video, camera_number, is_moving
from posestill.schema import UserError


def test_cameras_and_videos_are_told_by_their_names():
    assert [camera_number(each) for each in ("camera:0", "camera:12", "camera:", "camera:a", "x.mp4")] == [
        0, 12, None, None, None,
    ]  # fmt: skip
    assert [is_moving(each) for each in ("camera:1", "a/b.MOV", "a.png", "mp4")] == [True, True, False, False]


def test_frames_come_in_order_with_their_times_in_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for _ in range(4):
        writer.write(np.full((48, 64, 3), (0, 0, 250), dtype=np.uint8))  # BGR: red
    writer.release()
    video = Video(tmp_path / "a.mp4")
    frames = list(video.frames())
    assert (video.rate, video.promised) == (10, 4)
    assert [(each.number, each.seconds) for each in frames] == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    red, green, blue = frames[0].image.mean(axis=(0, 1))
    assert (red > 200, green < 50, blue < 50) == (True, True, True)
    video.close()
    assert len(list(Video(tmp_path / "a.mp4").frames(2))) == 2


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.avi").write_bytes(b"")
    for name, message in (
        ("text.mp4", "cannot be opened"),
        ("empty.avi", "cannot be opened"),
        ("gone.mp4", "not exist"),
    ):
        with pytest.raises(UserError, match=rf"^video [^\n]*{name} [^\n]*{message}[^\n]*$"):
            Video(tmp_path / name)


def test_a_video_that_is_cut_off_ends_with_an_error_after_its_frames(tmp_path):
    """An AVI's index stands at its end, and its header says how many frames there are."""
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    frames = []
    with pytest.raises(UserError, match=r"a.avi ends early, after \d+ of 20 frames: fetch it again"):
        frames.extend(Video(tmp_path / "a.avi").frames())
    assert 5 <= len(frames) <= 12


def test_a_drawn_video_stands_under_its_name_when_it_is_whole(tmp_path):
    video = DrawnVideo(tmp_path / "out" / "a.mp4", Outputs("predict"), rate=25.0)
    for _ in range(3):
        video.write(np.zeros((51, 71, 3), dtype=np.uint8))
    video.write(np.zeros((100, 140, 3), dtype=np.uint8))  # a stream that changes its size
    assert not (tmp_path / "out" / "a.mp4").exists()
    video.close()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4", ".posestill"}
    read = Video(tmp_path / "out" / "a.mp4")
    assert (read.rate, [each.image.shape for each in read.frames()]) == (25, [(50, 70, 3)] * 4)  # even sides only


def test_an_abandoned_video_leaves_nothing(tmp_path):
    video = DrawnVideo(tmp_path / "a.mp4", Outputs("predict"), rate=25.0)
    video.write(np.zeros((50, 70, 3), dtype=np.uint8))
    video.abandon()
    DrawnVideo(tmp_path / "b.mp4", Outputs("predict"), rate=25.0).close()  # without a frame
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_into_is_named(tmp_path, monkeypatch):
    class Closed:
        def __init__(self, *given):
            pass

        def isOpened(self):
            return False

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoWriter", type("Closed", (Closed,), {"fourcc": staticmethod(lambda *given: 0)}))
    with pytest.raises(UserError, match=r"a.mp4 cannot be written: look whether its folder can be written into"):
        DrawnVideo(tmp_path / "a.mp4", Outputs("predict"), rate=25.0).write(np.zeros((50, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("rate", [237.3626, 29.97, 999.0])
def test_a_rate_that_the_encoder_does_not_take_is_rounded(tmp_path, rate):
    drawn = DrawnVideo(tmp_path / "a.mp4", Outputs("predict"), rate=rate)
    for shade in range(3):
        drawn.write(np.full((48, 64, 3), shade, dtype=np.uint8))
    drawn.close()
    assert Video(tmp_path / "a.mp4").rate == pytest.approx(min(rate, 600), rel=1e-3)


def test_frames_of_a_camera_are_shown_as_long_as_they_lasted(tmp_path):
    drawn = DrawnVideo(tmp_path / "a.mp4", Outputs("predict"), rate=10)
    for seconds, shade in ((0.0, 0), (0.1, 60), (0.52, 120), (0.53, 250), (0.9, 180)):  # the fourth comes too early
        drawn.write(np.full((48, 64, 3), shade, dtype=np.uint8), seconds=seconds)
    drawn.close()
    shades = [frame.image.mean() for frame in Video(tmp_path / "a.mp4").frames()]
    assert np.array(shades) == pytest.approx([0, 60, 60, 60, 60, 120, 120, 120, 120, 180], abs=6)
