// Where the person is looked for: at first in the whole frame, then around the keypoints that were found there, and in
// the whole frame again when the person is lost. A box is [x, y, width, height] in px of the frame; a pose is one
// [x, y, score] a keypoint.

// A person counts as found from this share of its keypoints on: the one that `posestill predict --track` asks for.
const SURE_SHARE = 0.25;
// A person is larger than the box around its keypoints, and is never thinner than this share of its length.
const AROUND = 1.2;
const THINNEST = 0.25;
// The smallest person, as a share of the frame's longer side: what is smaller is a pose that has collapsed.
const SMALLEST = 0.04;
// How far the keypoints of a model without scores may move between frames, as a share of the box's longer side.
const FARTHEST_MOVE = 0.5;
// After so many frames a model without scores looks at the whole frame again, as nothing else tells that it errs.
const LOOK_AGAIN = 30;

export function wholeFrame({ width, height }) {
  return [0, 0, width, height];
}

// The box of the person whose keypoints these points are.
export function boxOfJoints(points) {
  const axes = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return { middle: (low + high) / 2, extent: AROUND * Math.max(high - low, 1) };
  });
  const thinnest = THINNEST * Math.max(axes[0].extent, axes[1].extent);
  const [width, height] = axes.map(({ extent }) => Math.max(extent, thinnest));
  return [axes[0].middle - width / 2, axes[1].middle - height / 2, width, height];
}

// The box around the keypoints that are scored at least `threshold`; null where too few are, or where they lie
// where no person can: in a heap, or outside of the frame.
export function boxOfPose(pose, threshold, frame) {
  const sure = pose.filter(([x, y, score]) => score >= threshold && Number.isFinite(x) && Number.isFinite(y));
  if (sure.length < 2 || sure.length < SURE_SHARE * pose.length) return null;
  const box = boxOfJoints(sure);
  const [x, y, width, height] = box;
  const [middleX, middleY] = [x + width / 2, y + height / 2];
  const isInside = middleX >= 0 && middleY >= 0 && middleX <= frame.width && middleY <= frame.height;
  const isLarge = Math.max(width, height) >= SMALLEST * Math.max(frame.width, frame.height);
  return isInside && isLarge ? box : null;
}

// The median distance between the same keypoints of two poses, px.
export function apart(pose, other) {
  const distances = pose.map(([x, y], k) => Math.hypot(x - other[k][0], y - other[k][1])).sort((a, b) => a - b);
  return distances[Math.floor(distances.length / 2)];
}

// Follows one person through the frames of one source, by one model.
export class Follower {
  constructor(hasScores) {
    this.hasScores = hasScores;
    this.forget();
  }

  forget() {
    this.box = null; // where the person is looked for in the next frame; null: in all of it
    this.pose = null;
    this.frames = 0;
  }

  // Looks at a frame: `answer(box)` gives the pose in a box. Where nobody is followed, the whole frame is looked at
  // first, and the person that is found there again from near by.
  async look(frame, threshold, answer) {
    const limit = this.hasScores ? threshold : 0;
    if (!this.hasScores && this.frames >= LOOK_AGAIN) this.forget();
    let box = this.box;
    if (box === null) {
      this.pose = null;
      const pose = await answer(wholeFrame(frame));
      box = boxOfPose(pose, limit, frame);
      if (box === null) return { pose, box: wholeFrame(frame), isFound: false };
    }
    const pose = await answer(box);
    const next = this.hasJumped(pose, box) ? null : boxOfPose(pose, limit, frame);
    this.box = next;
    this.pose = pose;
    this.frames += 1;
    return { pose, box, isFound: next !== null };
  }

  // Whether the keypoints moved farther than a person can: all that a model without scores lets one notice.
  hasJumped(pose, box) {
    if (this.hasScores || this.pose === null) return false;
    return apart(pose, this.pose) > FARTHEST_MOVE * Math.max(box[2], box[3]);
  }
}
