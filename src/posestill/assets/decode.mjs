// From pictures to keypoints with a network that posestill exported: all that a page needs beside a runtime.
//
// Beside each network lies `NETWORK.json`, which tells the rest. With onnxruntime-web:
//
//   const told = await (await fetch("model-fp32.onnx.json")).json();
//   const { crop, toPicture } = cut(imageData, [x, y, width, height], told);
//   const feeds = { [told.input.name]: new ort.Tensor("float32", tensor(crop, told), shape(told)) };
//   const results = await session.run(feeds);
//   const found = decode(results, told);            // of one crop: K times [x, y, score] in px of the crop
//   const pose = place(found, toPicture);           // K times [x, y, score] in px of the picture
//
// Px centres lie at whole numbers. A box is x, y, width and height in px of the picture. A picture is what a canvas'
// getImageData gives: { data, width, height } with four bytes a px.

// The crop of a person, RGB bytes row by row, and the affine [a, 0, c, 0, e, f] from its px back to the picture's.
export function cut(picture, box, told) {
  const [height, width] = told.size;
  const [x, y, wide, high] = box;
  const step = Math.max(Math.max(wide, 1) / width, Math.max(high, 1) / height) * told.padding;
  const left = x + wide / 2 - (step * width) / 2;
  const top = y + high / 2 - (step * height) / 2;
  const crop = new Uint8Array(width * height * 3);
  const at = (row, column, colour) =>
    row < 0 || column < 0 || row >= picture.height || column >= picture.width
      ? 0
      : picture.data[(row * picture.width + column) * 4 + colour];
  for (let row = 0; row < height; row++) {
    const v = top + step * row;
    const above = Math.floor(v);
    for (let column = 0; column < width; column++) {
      const u = left + step * column;
      const before = Math.floor(u);
      for (let colour = 0; colour < 3; colour++) {
        const upper = at(above, before, colour) * (before + 1 - u) + at(above, before + 1, colour) * (u - before);
        const lower =
          at(above + 1, before, colour) * (before + 1 - u) + at(above + 1, before + 1, colour) * (u - before);
        crop[(row * width + column) * 3 + colour] = Math.round(upper * (above + 1 - v) + lower * (v - above));
      }
    }
  }
  return { crop, toPicture: [step, 0, left, 0, step, top] };
}

// What the network is given for one crop: px from 0 to 255, as it normalises them itself.
export function tensor(crop, told) {
  const [height, width] = told.size;
  if (told.input.order === "nhwc") return Float32Array.from(crop);
  const values = new Float32Array(crop.length);
  for (let px = 0; px < width * height; px++)
    for (let colour = 0; colour < 3; colour++) values[colour * width * height + px] = crop[px * 3 + colour];
  return values;
}

// The shape of that tensor.
export function shape(told) {
  return told.input.order === "nhwc" ? [1, ...told.size, 3] : [1, 3, ...told.size];
}

// Keypoints of one crop, each as [x, y, score] in px of the crop, from the outputs by name ({ data, dims }).
export function decode(outputs, told) {
  if (outputs.keypoints) return rows(outputs.keypoints);
  if (outputs.maps) return ofMaps(outputs.maps, told);
  if (outputs.numbers) return ofNumbers(outputs.numbers, told);
  return ofBins([outputs.simcc_x, outputs.simcc_y], told.codec);
}

// The same keypoints in px of the picture.
export function place(found, toPicture) {
  const [a, b, c, d, e, f] = toPicture;
  return found.map(([x, y, score]) => [a * x + b * y + c, d * x + e * y + f, score]);
}

function rows(output) {
  const length = output.dims[output.dims.length - 1];
  const count = output.dims[output.dims.length - 2];
  return Array.from({ length: count }, (_, k) => Array.from(output.data.slice(k * length, (k + 1) * length)));
}

function ofNumbers(output, told) {
  const [height, width] = told.size;
  return rows(output).map((numbers) => {
    let score = 1;
    if (told.codec.name === "rle") score = 1 - (numbers[2] + numbers[3]) / 2;
    else if (told.codec.score) score = numbers[2];
    return [numbers[0] * width, numbers[1] * height, score];
  });
}

function highest(values) {
  let best = 0;
  for (let at = 1; at < values.length; at++) if (values[at] > values[best]) best = at;
  return best;
}

// The share of the largest of some logits in their softmax.
function surest(values) {
  const top = values[highest(values)];
  return 1 / values.reduce((total, value) => total + Math.exp(value - top), 0);
}

function ofBins(outputs, codec) {
  const axes = outputs.map((output, axis) => {
    const each = rows(output);
    const count = each[0].length;
    const sigma = codec.sigma[axis];
    const perfect = Array.from(
      { length: count },
      (_, bin) => codec.beta * Math.exp(-((bin - Math.floor(count / 2)) ** 2) / (2 * sigma ** 2)),
    );
    const best = surest(perfect);
    return each.map((logits) => [
      highest(logits) / codec.split,
      Math.min(surest(logits.map((value) => value * codec.beta)) / best, 1),
    ]);
  });
  return axes[0].map(([x, sureX], k) => [x, axes[1][k][0], Math.min(sureX, axes[1][k][1])]);
}

function ofMaps(output, told) {
  const { codec, size } = told;
  const [, count, height, width] = output.dims;
  let step = [codec.stride, codec.stride];
  let first = 0;
  if (codec.grid === "udp") step = [(size[1] - 1) / (width - 1), (size[0] - 1) / (height - 1)];
  else if (codec.grid === "cells") first = (codec.stride - 1) / 2;
  return Array.from({ length: count }, (_, k) => {
    const map = output.data.subarray(k * height * width, (k + 1) * height * width);
    const best = highest(map);
    const cell = [best % width, Math.floor(best / width)];
    const value = (row, column) =>
      row < 0 || column < 0 || row >= height || column >= width ? 0 : map[row * width + column];
    const edge = codec.decoder === "dark" ? 2 : 1; // cells beside the border, where no step is taken
    const isInside = Math.min(cell[0], cell[1], width - 1 - cell[0], height - 1 - cell[1]) >= edge;
    let move = [0, 0];
    if (codec.decoder === "local") move = localMean(value, cell, [width, height], 2.5 * codec.sigma);
    else if (codec.decoder === "quarter" && isInside) move = quarterStep(value, cell);
    else if (codec.decoder === "dark" && isInside) move = taylorStep(value, cell, codec.blur_kernel);
    return [(cell[0] + move[0]) * step[0] + first, (cell[1] + move[1]) * step[1] + first, map[best]];
  });
}

function quarterStep(value, [x, y]) {
  return [Math.sign(value(y, x + 1) - value(y, x - 1)) / 4, Math.sign(value(y + 1, x) - value(y - 1, x)) / 4];
}

// One step of Newton's on the logarithm of the smoothed map (DARK, CVPR 2020); none where it is not curved.
function taylorStep(value, [x, y], kernel) {
  const half = (kernel - 1) / 2;
  const deviation = 0.3 * (half - 1) + 0.8;
  const line = Array.from({ length: kernel }, (_, at) => Math.exp(-((at - half) ** 2) / (2 * deviation ** 2)));
  const total = line.reduce((sum, each) => sum + each, 0);
  const near = [-1, 0, 1].map((down) =>
    [-1, 0, 1].map((right) => {
      let smooth = 0;
      for (let i = 0; i < kernel; i++)
        for (let j = 0; j < kernel; j++)
          smooth += (line[i] / total) * (line[j] / total) * value(y + down + i - half, x + right + j - half);
      return Math.log(Math.max(smooth, 1e-10));
    }),
  );
  const dx = (near[1][2] - near[1][0]) / 2;
  const dy = (near[2][1] - near[0][1]) / 2;
  const dxx = near[1][2] - 2 * near[1][1] + near[1][0];
  const dyy = near[2][1] - 2 * near[1][1] + near[0][1];
  const dxy = (near[2][2] - near[2][0] - near[0][2] + near[0][0]) / 4;
  const determinant = dxx * dyy - dxy ** 2;
  if (!(determinant > 1e-12)) return [0, 0];
  const within = (move) => Math.max(-1, Math.min(1, move));
  return [within((dxy * dy - dyy * dx) / determinant), within((dxy * dx - dxx * dy) / determinant)];
}

// From the peak to the mean place under the positive part of the map around it, in a window that the border cuts evenly.
function localMean(value, [x, y], [width, height], radius) {
  const roomX = Math.min(x, width - 1 - x, Math.ceil(radius));
  const roomY = Math.min(y, height - 1 - y, Math.ceil(radius));
  let [mass, sumX, sumY] = [0, 0, 0];
  for (let down = -roomY; down <= roomY; down++)
    for (let right = -roomX; right <= roomX; right++) {
      const each = Math.max(value(y + down, x + right), 0);
      mass += each;
      sumX += each * right;
      sumY += each * down;
    }
  return mass > 1e-12 ? [sumX / mass, sumY / mass] : [0, 0];
}
