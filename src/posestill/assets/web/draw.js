// Draws a pose as `posestill predict` does: a person's left side warm, the right side cool, the middle light.

const MIDDLE = [235, 235, 235];
const EDGE = [20, 20, 20];
// A person is at least so many times longer than its lines are thick; where keypoints are many, lines are thinner.
const SLENDER = 40;
const MANY = 30;
// The longest side of a drawing, px: smaller frames are drawn larger, so that lines are fine, and larger ones smaller.
const [SMALLEST, LARGEST] = [720, 1280];

const css = (colour) => `rgb(${colour.join(" ")})`;
const isSame = (first, second) => first.every((value, at) => value === second[at]);

// Draws a frame (anything that a canvas takes, with width and height) and, on it, what a model found there.
export function drawFrame(canvas, frame, found, { edges, colours, threshold }) {
  const longest = Math.max(frame.width, frame.height);
  const scale = Math.min(Math.max(longest, SMALLEST), LARGEST) / longest;
  const [width, height] = [Math.round(frame.width * scale), Math.round(frame.height * scale)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.drawImage(frame, 0, 0, width, height);
  // Px centres lie at whole numbers in a pose, and half a px further in a canvas.
  pen.setTransform(scale, 0, 0, scale, scale / 2, scale / 2);
  drawBox(pen, found.box, scale);
  drawPose(pen, found.pose, { edges, colours, threshold, longest });
}

function drawBox(pen, [x, y, width, height], scale) {
  pen.lineWidth = 1.5 / scale;
  pen.setLineDash([6 / scale, 5 / scale]);
  pen.strokeStyle = css(MIDDLE);
  pen.strokeRect(x, y, width, height);
  pen.setLineDash([]);
}

function drawPose(pen, pose, { edges, colours, threshold, longest }) {
  const isShown = pose.map(([x, y, score]) => score >= threshold && Number.isFinite(x + y));
  const size = thickness(pose.filter((_, k) => isShown[k]), pose.length, longest);
  pen.lineCap = "round";
  pen.lineWidth = size;
  for (const [start, end] of edges) {
    if (!isShown[start] || !isShown[end]) continue;
    pen.strokeStyle = css(isSame(colours[start], colours[end]) ? colours[start] : MIDDLE);
    pen.beginPath();
    pen.moveTo(pose[start][0], pose[start][1]);
    pen.lineTo(pose[end][0], pose[end][1]);
    pen.stroke();
  }
  pose.forEach((point, k) => {
    if (!isShown[k]) return;
    dot(pen, point, size + 1, EDGE);
    dot(pen, point, size, colours[k]);
  });
}

// How thick a person is drawn, px of the frame.
export function thickness(shown, count, longest) {
  const spreads = [0, 1].map((axis) => {
    const values = shown.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  });
  const extent = shown.length ? Math.max(...spreads) : 0;
  const slim = count <= MANY ? SLENDER : 2.5 * SLENDER;
  return Math.min(Math.max(1, Math.round(longest / 120)), Math.max(1, Math.round(extent / slim)));
}

function dot(pen, [x, y], radius, colour) {
  pen.fillStyle = css(colour);
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}
