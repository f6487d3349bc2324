import json
from dataclasses import replace

import pytest

from posestill.cluster.shards import Shard
from posestill.data.images import ImagesConfig
from posestill.engine.choose import open_teacher
from posestill.predict import label_shards
from posestill.predict.label import label_pictures, sheet_path
from posestill.predict.label_shards import LabelJob, label_on, label_shard, make_part, parts_folder
from posestill.schema import UserError, validate
from tests.engine.test_pictures import Heard
from tests.networks import write_detector, write_photos, write_teacher, write_video


def job_of(tmp_path, folder, shard=Shard(1, 1), **settings):
    given = validate(ImagesConfig, {"folder": folder, **settings}, where="label")
    teacher = tmp_path / "t.onnx"
    if not teacher.exists():
        write_teacher(teacher)
    return LabelJob(given, str(teacher), None, tmp_path / "labels.json", "cpu", shard)


def labelled(job, count, **how):
    """What each of so many shards gives in turn."""
    return [label_shard(replace(job, shard=shard), threshold=0.3, log=Heard(), **how) for shard in Shard(1, count).all]


def by_one(tmp_path, job):
    out = tmp_path / "one" / "labels.json"
    found = label_pictures(job.given, open_teacher(job.teacher), out, log=Heard())
    return found, json.loads(out.read_text())


@pytest.mark.parametrize("count", [2, 9])
def test_the_last_shard_writes_what_one_process_writes(tmp_path, count):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 5))
    *first, last = labelled(job, count)
    assert first == [None] * (count - 1)
    found, content = by_one(tmp_path, job)
    assert json.loads(job.out.read_text()) == content
    assert replace(last, sheet=found.sheet) == found
    assert sheet_path(job.out).is_file()


def test_people_of_a_detector_and_pictures_that_cannot_be_read_come_together_too(tmp_path):
    folder = write_photos(tmp_path / "p", 4)
    (folder / "3.png").write_bytes(b"no picture")
    job = job_of(tmp_path, folder, detector=write_detector(tmp_path / "d.onnx"))
    last = labelled(job, 2)[-1]
    found, content = by_one(tmp_path, job)
    assert json.loads(job.out.read_text()) == content
    assert last.unreadable == found.unreadable == (f"{folder / '3.png'} cannot be read",)


def test_frames_of_a_video_are_shared_out_too(tmp_path):
    job = job_of(tmp_path, write_video(tmp_path / "walk.avi", 6), frame_step=2)
    labelled(job, 2)
    assert json.loads(job.out.read_text())["annotations"] == by_one(tmp_path, job)[1]["annotations"]
    assert len(list((tmp_path / "labels-frames").glob("*.jpg"))) == 3


def test_a_shard_whose_part_is_there_asks_nobody_and_the_labels_are_written_once(tmp_path, monkeypatch):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 3))
    before = labelled(job, 2)[-1]
    stamp = job.out.stat().st_mtime_ns
    monkeypatch.setattr(label_shards, "ask", lambda *_, **__: pytest.fail("asked again"))
    assert labelled(job, 2) == [before, before]
    assert job.out.stat().st_mtime_ns == stamp


def test_another_threshold_makes_other_labels_of_the_same_parts(tmp_path, monkeypatch):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 3))
    write_teacher(tmp_path / "t.onnx", sure=6)
    labelled(job, 2)
    before = [each["num_keypoints"] for each in json.loads(job.out.read_text())["annotations"]]
    monkeypatch.setattr(label_shards, "ask", lambda *_, **__: pytest.fail("asked again"))
    label_shard(replace(job, shard=Shard(1, 2)), threshold=0.05, log=Heard())
    again = [each["num_keypoints"] for each in json.loads(job.out.read_text())["annotations"]]
    assert min(again) > max(before)


def test_parts_made_for_another_number_of_shards_are_refused(tmp_path):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 3))
    label_shard(replace(job, shard=Shard(1, 2)), threshold=0.3, log=Heard())
    with pytest.raises(UserError, match=r"labels-shards has parts of other labels \(shards: 2 there, 3 here\): delete"):
        label_shard(replace(job, shard=Shard(1, 3)), threshold=0.3, log=Heard())


def test_parts_of_another_teacher_or_without_their_job_are_refused(tmp_path):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 3))
    label_shard(replace(job, shard=Shard(1, 2)), threshold=0.3, log=Heard())
    other = replace(job, teacher=str(write_teacher(tmp_path / "other.onnx", confidence=0.8)), shard=Shard(2, 2))
    with pytest.raises(UserError, match=r"has parts of other labels \(teacher\.sha256: "):
        label_shard(other, threshold=0.3, log=Heard())
    (parts_folder(job.out) / "job.json").unlink()
    with pytest.raises(UserError, match=r"holds 1-of-2\.npz, which is not posestill's"):
        label_shard(replace(job, shard=Shard(2, 2)), threshold=0.3, log=Heard())


def test_a_broken_part_is_named_with_what_to_do(tmp_path):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 3))
    make_part(replace(job, shard=Shard(1, 2)), Heard())
    part = replace(job, shard=Shard(1, 2)).part
    part.write_bytes(part.read_bytes()[:-40])
    said = r"the part .*1-of-2\.npz \(delete it, and its shard makes it anew\) is malformed: it is not whole"
    with pytest.raises(UserError, match=said):
        label_shard(replace(job, shard=Shard(2, 2)), threshold=0.3, log=Heard())


def test_labels_of_the_users_are_not_written_over(tmp_path):
    job = job_of(tmp_path, write_photos(tmp_path / "p", 2))
    job.out.write_text("mine")
    with pytest.raises(UserError, match=r"--out .*labels\.json is there already, and not what label wrote there"):
        labelled(job, 2)
    assert not parts_folder(job.out).exists()
    labelled(job, 2, overwrite=True)
    assert job.out.read_text() != "mine"


def test_where_nobody_is_found_the_last_one_says_so(tmp_path):
    (tmp_path / "boxes.json").write_text('{"1.png": [[0, 0, 0, 0]]}')
    job = job_of(tmp_path, write_photos(tmp_path / "p", 2), boxes=tmp_path / "boxes.json")
    with pytest.raises(UserError, match=r"nobody was found in the 2 pictures"):
        labelled(job, 2)


class Here:
    """Calls that are made in this process, as a cluster would make them."""

    def __init__(self):
        self.called = []

    def each(self, function, givens, *, say, told):
        for given in givens:
            self.called.append(str(given.shard))
            told(given, function(given))


def test_a_cluster_makes_the_parts_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(label_shards, "LOT", 2)
    job, here = job_of(tmp_path, write_photos(tmp_path / "p", 5)), Here()
    make_part(replace(job, shard=Shard(2, 3)), Heard())
    label_on(here, job, threshold=0.3, log=Heard())
    assert here.called == ["1/3", "3/3"]
    assert json.loads(job.out.read_text()) == by_one(tmp_path, job)[1]
