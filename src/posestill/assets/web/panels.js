// What is written about the models: a panel with the drawing and the times of each, and a card with what it is.

import { drawFrame } from "./draw.js";
import { milliseconds, rate, roughly } from "./words.js";

const NO_SCORES =
  "This model gives no trained scores: nothing tells how sure it is of a keypoint. Whether the person is lost is " +
  "judged by how the keypoints move and how far they spread, and the whole picture is looked at again every 30 frames.";

function fromTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export class Panel {
  constructor(student) {
    this.student = student;
    this.element = fromTemplate("panel");
    this.canvas = this.element.querySelector("canvas");
    this.element.querySelector(".name").textContent = student.title;
    this.say({ backend: student.backend });
  }

  // Draws what the model found in a frame that lies in a canvas, and writes down the times.
  show(frame, found, { threshold, perFrame }) {
    const { skeleton } = this.student.told;
    const { colours } = this.student.entry;
    drawFrame(this.canvas, frame, found, { edges: skeleton.edges, colours, threshold });
    const shown = found.pose.filter(([, , score]) => score >= threshold).length;
    const seen = found.isFound ? `A person with ${shown} of ${found.pose.length} keypoints` : "Nobody is found";
    this.canvas.setAttribute("aria-label", `${seen}, by ${this.student.title}.`);
    this.say({
      network: milliseconds(this.student.networkTimes.median),
      whole: milliseconds(this.student.wholeTimes.median),
      rate: rate(perFrame),
      backend: this.student.backend,
    });
    this.element.querySelector(".rate").parentElement.hidden = perFrame === null;
    const note = this.element.querySelector(".note");
    note.hidden = found.isFound;
    note.textContent = "Nobody is found here. It helps when the person fills most of the picture.";
  }

  say(values) {
    for (const [name, value] of Object.entries(values)) this.element.querySelector(`.${name}`).textContent = value;
  }
}

// The card of a model; call `tell` again when more is known.
export class Card {
  constructor(student) {
    this.student = student;
    this.element = fromTemplate("card");
    this.element.querySelector("h3").textContent = student.title;
  }

  tell() {
    const { told, entry, backend, why, hasScores, offBy, agrees } = this.student;
    const [height, width] = told.size;
    const licence = told.licence.length ? ` Licences: ${told.licence.join(", ")}.` : "";
    this.write(
      ".facts",
      `${told.skeleton.names.length} keypoints in crops of ${width} × ${height} px. ` +
        `${roughly(told.parameters)} parameters, ${(entry.bytes / 1e6).toFixed(1)} MB, ${told.precision}.${licence}`,
    );
    this.write(
      ".check",
      `Runs on ${backend}${backend === "WebGPU" ? "" : ", on one thread"}. ${why} On the sample${backend === "WebGPU" ? ", by WebAssembly," : ""} its keypoints lie ` +
        `within ${Math.max(offBy, 0.01).toFixed(2)} px of those that ONNX Runtime found when this page was made.`,
    );
    const warnings = [];
    if (!agrees)
      warnings.push(
        "This browser finds other keypoints than were found when this page was made. It may change what pages read " +
          "from pictures, which a privacy setting does, or calculate wrongly.",
      );
    if (!hasScores) warnings.push(NO_SCORES);
    this.write(".warning", warnings.join(" "));
    this.element.querySelector(".warning").hidden = !warnings.length;
  }

  write(selector, text) {
    this.element.querySelector(selector).textContent = text;
  }
}
