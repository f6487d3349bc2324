"""Poses of the persons in pictures, videos and cameras: drawn, and as a file of predictions.

Pictures pass through one at a time. Their persons' crops wait until the network has a batch of them, so that the memory
grows neither with the number of pictures nor with the length of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from posestill.data.images import FoundBoxes
from posestill.draw import draw_poses, image_writer
from posestill.engine.log import Bar, RunLog
from posestill.evaluation.evaluate import person_score
from posestill.files import Outputs
from posestill.models.threads import try_threads
from posestill.predict.files import Wanted, drawings
from posestill.predict.people import Finder, Following, People, whole_frame
from posestill.predict.predictor import Crops, Predictor, faults_of
from posestill.predict.results import Results, Told, open_results
from posestill.predict.stages import Stages
from posestill.predict.video import DrawnVideo, Frame, Video, camera_number
from posestill.schema import UserError

PREDICTIONS = "predictions.json"
_MOST_BYTES = 256 << 20
"""of pictures that wait to be drawn"""
Show = Callable[[np.ndarray], None]
"""takes a drawing (H, W, 3) uint8 RGB"""


@dataclass
class Predicted:
    """What came of some pictures, videos and cameras."""

    people: int = 0
    images: int = 0
    """that were read"""
    frames: int = 0
    """of videos and cameras"""
    videos: int = 0
    empty: int = 0
    """pictures and frames in which nobody was found"""
    unreadable: list[str] = field(default_factory=list)
    """what could not be read, or not to its end, a line each"""
    left_out: list[str] = field(default_factory=list)
    """boxes in which nobody can stand, a line each"""
    is_stopped: bool = False
    """True: the user stopped it"""
    stages: Stages = field(default_factory=Stages)


@dataclass
class _Shot:
    """A picture or a frame on its way through the network."""

    told: Told
    crops: Crops | None
    """None where the network has been asked already"""
    image: np.ndarray | None
    """(H, W, 3) uint8 RGB, where it is drawn"""
    show: Show | None
    people: People | None
    """of the video, where they are followed"""

    @property
    def waiting(self) -> int:
        """How many persons the network is to be asked about."""
        return 0 if self.crops is None else len(self.crops.pixels)


def predict_files(
    predictor: Predictor,
    wanted: Sequence[Wanted],
    *,
    out: Path,
    threshold: float = 0.2,
    draw: bool = True,
    outputs: Outputs | None = None,
    results: Path | None = None,
    finder: Finder | None = None,
    following: Following | None = None,
    batch_size: int = 32,
    most_frames: int | None = None,
) -> Predicted:
    """Write drawn pictures and videos into `out`, and predictions to `results` (None: `predictions.json` there).

    Where nobody has said where the persons of a picture are, `finder` does (None: the whole picture is one). What
    cannot be read is passed over; where that is all of it, a `UserError` names the first. Nothing is written before all
    names in `out` are known to be free, which `outputs` decides.
    """
    outputs = outputs or Outputs("predict", read=[each.path for each in wanted])
    listing = outputs.claim(out / PREDICTIONS, "--out") if results is None else outputs.claim(results, "--save-results")
    file = open_results(listing, outputs, predictor.skeleton)
    names = drawings([each.called for each in wanted], [each.is_moving for each in wanted])
    places = [outputs.claim(out / name, "--out") for name in names] if draw else [None] * len(names)
    if predictor.device.type == "cpu":
        blank = np.zeros((*predictor.model.config.size, 3), dtype=np.uint8)
        if (trial := try_threads(lambda: predictor(blank))) is not None:
            RunLog(None).say(f"threads: {trial}")
    run = _Run(
        predictor, file, outputs, finder, following or Following(), threshold=threshold, batch_size=batch_size,
        most_frames=most_frames, last_id=max((each.image_id for each in wanted), default=0),
    )  # fmt: skip
    is_endless = any(camera_number(each.path) is not None for each in wanted) and most_frames is None
    try:
        total = sum(_promised(each, most_frames) for each in wanted)
        with RunLog(None, quiet=is_endless).bar("predicting", total) as bar:
            run.bar = bar
            for each, place in zip(wanted, places, strict=True):
                run.look(each, place)
                if run.done.is_stopped:
                    break
            run.flush()
        if not run.done.images and not run.done.frames:
            few = f"none of the {len(wanted)} images can be read; " if run.done.unreadable else ""
            raise UserError(few + next(iter(run.done.unreadable), "nothing was predicted before it was stopped"))
    except BaseException:
        file.abandon()
        raise
    file.close()
    return run.done


def _promised(wanted: Wanted, most: int | None) -> int:
    """How many frames there are to predict, as far as a file says so."""
    if not wanted.is_moving:
        return 1
    if camera_number(wanted.path) is not None:
        return most or 1
    with suppress(UserError):  # which is told when it is read
        video = Video(wanted.path)
        video.close()
        return video.promised if most is None else min(most, video.promised)
    return 1


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        file: Results,
        outputs: Outputs,
        finder: Finder | None,
        following: Following,
        *,
        threshold: float,
        batch_size: int,
        most_frames: int | None,
        last_id: int,
    ) -> None:
        self.predictor, self.file, self.outputs = predictor, file, outputs
        self.finder, self.following, self.threshold = finder, following, threshold
        self.batch_size, self.most_frames, self.last_id = batch_size, most_frames, last_id
        self.done = Predicted()
        self.stages = self.done.stages
        self.bar: Bar | None = None
        self._waiting: list[_Shot] = []

    def look(self, wanted: Wanted, place: Path | None) -> None:
        """Predict a picture, a video or what a camera sees; a keyboard interrupt ends it in good order."""
        try:
            if wanted.is_moving:
                self._look_at_video(wanted, place)
            else:
                self._look_at_picture(wanted, place)
        except KeyboardInterrupt:
            self.done.is_stopped = True

    def flush(self) -> None:
        """Ask the network about everybody who waits, and write what it says."""
        shots, self._waiting = self._waiting, []
        asked = [each.crops for each in shots if each.crops is not None]
        poses, start = self._ask(asked), 0
        for each in shots:
            if each.crops is not None:
                each.told = replace(each.told, poses=poses[start : start + each.waiting])
                start += each.waiting
            self._tell(each)

    def _look_at_picture(self, wanted: Wanted, place: Path | None) -> None:
        try:
            with self.stages("decode"):
                image = wanted.read()
        except UserError as error:
            self.done.unreadable.append(str(error))
            self._advance()
            return
        self.done.images += 1
        told = _told(wanted, wanted.image_id, image, self._boxes_of(wanted, image))
        self._add(told, image, None if place is None else partial(self._write_picture, place), None)

    def _look_at_video(self, wanted: Wanted, place: Path | None) -> None:
        self.flush()
        try:
            video = Video(wanted.path)
        except UserError as error:
            self.done.unreadable.append(str(error))
            self._advance()
            return
        drawn = None if place is None else DrawnVideo(place, self.outputs, rate=video.rate)
        people = None
        if self.following.is_wanted:
            people = People(self.following, self.predictor.skeleton, threshold=self.threshold)
        frames, before = video.frames(self.most_frames), self.done.frames
        try:
            with suppress(KeyboardInterrupt):
                self.done.is_stopped = True
                while (frame := self._next(frames)) is not None:
                    # A camera's frames come as fast as they are looked at.
                    seconds = frame.seconds if video.camera is not None else None
                    show = None if drawn is None else partial(drawn.write, seconds=seconds)
                    self._look_at_frame(wanted, frame, people, show)
                self.done.is_stopped = False
            self.flush()
            self.done.videos += self.done.frames > before
            if drawn is not None:
                with self.stages("encode"):
                    drawn.close()
        except BaseException:
            if drawn is not None:
                drawn.abandon()
            raise
        finally:
            video.close()

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        try:
            with self.stages("decode"):
                return next(frames, None)
        except UserError as error:
            self.done.unreadable.append(str(error))
            return None

    def _look_at_frame(self, wanted: Wanted, frame: Frame, people: People | None, show: Show | None) -> None:
        self.done.frames += 1
        self.last_id += 1
        image = frame.image
        if people is None or not self.following.track:
            self._add(_told(wanted, self.last_id, image, self._find(image), frame), image, show, people)
            if camera_number(wanted.path) is not None:  # whoever looks on wants to see it now
                self.flush()
            return
        found, poses = people.follow(
            frame.number,
            ask=lambda boxes: self._ask([self._cut(image, boxes)]),
            find=lambda: self._find(image),
            has_detector=self.finder is not None,
        )
        told = replace(_told(wanted, self.last_id, image, found, frame), poses=poses)
        self._tell(_Shot(told, None, image, show, people))

    def _find(self, image: np.ndarray) -> FoundBoxes:
        with self.stages("find"):
            return (self.finder or whole_frame)(image)

    def _boxes_of(self, wanted: Wanted, image: np.ndarray) -> FoundBoxes:
        """Where the persons of a picture are, without the boxes in which nobody can stand."""
        if wanted.boxes is None:
            return self._find(image)
        score = np.ones(len(wanted.boxes)) if wanted.box_score is None else wanted.box_score
        faults = faults_of(wanted.boxes, (image.shape[0], image.shape[1]))
        self.done.left_out += [f"{wanted.called}: {fault}" for fault in faults.values()]
        kept = np.array([row not in faults for row in range(len(score))], dtype=bool)
        return FoundBoxes(wanted.boxes[kept], score[kept])

    def _add(self, told: Told, image: np.ndarray, show: Show | None, people: People | None) -> None:
        """Let a picture wait until there is a batch of persons."""
        shot = _Shot(told, self._cut(image, told.boxes), None if show is None else image, show, people)
        waiting = sum(each.waiting for each in self._waiting)
        held = sum(each.image.nbytes for each in self._waiting if each.image is not None)
        if waiting + shot.waiting > self.batch_size or held + image.nbytes > _MOST_BYTES:
            self.flush()
        self._waiting.append(shot)
        if len(self._waiting) >= self.batch_size:  # as where few pictures have people
            self.flush()

    def _cut(self, image: np.ndarray, boxes: np.ndarray) -> Crops:
        with self.stages("crop"):
            return self.predictor.crops(image, boxes)

    def _ask(self, crops: Sequence[Crops]) -> np.ndarray:
        """(N, K, 3) the poses of all persons in some crops, so many at a time as the batch has."""
        pixels = [each.pixels for each in crops if len(each.pixels)]
        if not pixels:
            return np.zeros((0, len(self.predictor.skeleton), 3))
        together = np.concatenate(pixels)
        affines = np.concatenate([each.to_input for each in crops if len(each.pixels)])
        starts = range(0, len(together), self.batch_size)
        parts = [Crops(together[at : at + self.batch_size], affines[at : at + self.batch_size]) for at in starts]
        return np.concatenate([self.predictor.poses(each, self.stages) for each in parts])

    def _tell(self, shot: _Shot) -> None:
        """Write and draw what was found in one picture."""
        told = shot.told
        rescoring = self.predictor.model.codec.rescoring
        is_tracked = shot.people is not None and self.following.track  # whose boxes nobody scored
        sure = np.ones(len(told.poses)) if is_tracked else told.box_score
        score = [
            person_score(pose[:, 2], each, rescoring=rescoring)
            for pose, each in zip(told.poses, sure.tolist(), strict=True)
        ]
        told = replace(told, score=np.array(score, dtype=np.float64))
        if shot.people is not None:
            poses, numbers = shot.people.known_again(told.poses, told.boxes, told.seconds or 0.0)
            told = replace(told, poses=poses, tracks=numbers)
        self.done.people += len(told.poses)
        self.done.empty += not len(told.poses)
        with self.stages("encode"):
            self.file.add(told)
        if shot.show is not None and shot.image is not None:
            whole = whole_frame(shot.image).boxes[0]
            boxes = np.array([box for box in told.boxes if not np.array_equal(box, whole)]).reshape(-1, 4)
            with self.stages("draw"):
                skeleton = self.predictor.skeleton
                drawn = draw_poses(shot.image, told.poses, skeleton, threshold=self.threshold, boxes=boxes)
            with self.stages("encode"):
                shot.show(drawn)
        self._advance()

    def _write_picture(self, place: Path, drawn: np.ndarray) -> None:
        self.outputs.write(place, image_writer(place, drawn), one_of_many=True)

    def _advance(self) -> None:
        if self.bar is not None:
            self.bar.advance()


def _told(wanted: Wanted, image_id: int, image: np.ndarray, found: FoundBoxes, frame: Frame | None = None) -> Told:
    """What is known before the network was asked."""
    return Told(
        name=wanted.called,
        image_id=image_id,
        category_id=wanted.category_id,
        size=(image.shape[0], image.shape[1]),
        boxes=found.boxes,
        box_score=found.score,
        poses=np.zeros((0, 0, 3)),
        score=np.zeros(0),
        frame=None if frame is None else frame.number,
        seconds=None if frame is None else frame.seconds,
    )
