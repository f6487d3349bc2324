// One model of the page: its worker, what it is told, and the person that it follows.

import { cut, place } from "./decode.js";
import { Follower, wholeFrame } from "./person.js";
import { Recent } from "./recent.js";

// Keypoints of the sample must lie this near to those that were found when the page was made, px of the picture.
const NEAR = 1;
const SURE = 0.2;

const absolute = (path) => new URL(path, document.baseURI).href;

export class Student {
  constructor(entry, runtime) {
    this.entry = entry;
    this.title = entry.title;
    this.runtime = Object.fromEntries(
      Object.entries(runtime.backends).map(([name, files]) => [
        name,
        files && Object.fromEntries(Object.entries(files).map(([part, path]) => [part, absolute(path)])),
      ]),
    );
    this.backend = "WebAssembly";
    this.why = "";
    this.waiting = new Map();
    this.asked = 0;
  }

  // Loads the network and looks at the sample; throws an error whose message is for the reader.
  async open(sample) {
    const told = await fetch(absolute(`${this.entry.file}.json`));
    if (!told.ok) throw new Error(`The server has no ${this.entry.file}.json (${told.status}).`);
    this.told = await told.json();
    this.hasScores = this.told.keypoint_score === "trained";
    this.restart();
    this.worker = new Worker(absolute("network.js"), { type: "module" });
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = () => this.fail("The browser could not start the model’s worker.");
    const { crop, toPicture } = cut(sample, wholeFrame(sample), this.told);
    const model = absolute(this.entry.file);
    const { keypoints } = await this.ask("open", { model, sidecar: this.told, runtime: this.runtime, crop });
    this.offBy = farthest(place(keypoints, toPicture), this.entry.sample);
    this.agrees = this.offBy <= NEAR;
  }

  // Lets the worker try WebGPU; later answers come from whichever it keeps.
  async chooseBackend() {
    Object.assign(this, await this.ask("choose", {}));
  }

  // Begins with nobody to follow and no times, as for another source. What still looks at the one before keeps its own.
  restart() {
    this.follower = new Follower(this.hasScores);
    this.networkTimes = new Recent();
    this.wholeTimes = new Recent();
  }

  // What the model finds in a frame (ImageData): the pose and the box it was found in, px of the frame.
  async look(frame, threshold) {
    const { follower, networkTimes, wholeTimes } = this;
    const began = performance.now();
    const found = await follower.look(frame, threshold, async (box) => {
      const { crop, toPicture } = cut(frame, box, this.told);
      const { keypoints, milliseconds } = await this.ask("run", { crop });
      networkTimes.add(milliseconds);
      return place(keypoints, toPicture);
    });
    wholeTimes.add(performance.now() - began);
    return found;
  }

  ask(kind, given) {
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, kind, ...given });
    });
  }

  receive({ id, answer, problem }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (problem === undefined) resolve(answer);
    else reject(new Error(problem));
  }

  fail(problem) {
    for (const { reject } of this.waiting.values()) reject(new Error(problem));
    this.waiting.clear();
  }
}

// How far the sure keypoints of a pose lie from those that are wanted, at most, px.
function farthest(pose, wanted) {
  const distances = wanted.map(([x, y, score], k) => (score >= SURE ? Math.hypot(x - pose[k][0], y - pose[k][1]) : 0));
  return Math.max(...distances);
}
