// The page: loads its models, lets one choose what they look at, and shows what they find.
//
// After each frame the document has an event `posestill:frame`, whose detail holds the frame (ImageData) and, for each
// model, the pose, the box and the times: what a page around this one would read.

import { Card, Panel } from "./panels.js";
import { Recent } from "./recent.js";
import { Camera, Picture, Video } from "./sources.js";
import { Student } from "./student.js";
import { aboutCamera, aboutFile, aboutLoading } from "./words.js";

const element = (id) => document.getElementById(id);
const main = document.querySelector("main");

let students = [];
let panels = [];
let sample; // the sample picture, a Blob
let source = null;
let last = []; // what the models found in the frame that is shown
let facing = "user";
let perFrame = new Recent();
// When the frame before was done with; null before the first one and after a pause.
let lastDone = null;

function say(text) {
  element("status").textContent = text;
}

function complain(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

const threshold = () => Number(element("threshold").value);

async function fetched(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`The server has no ${path} (${answer.status}).`);
  return answer;
}

async function load() {
  const page = await (await fetched("page.json")).json();
  element("made").textContent =
    `Made by ${page.made_by}. Runs on ONNX Runtime Web ${page.runtime.version} (MIT licence), which lies here, too.`;
  sample = await (await fetched(page.sample)).blob();
  const picture = await Picture.open(sample);
  const frame = picture.read();
  for (const entry of page.models) {
    say(`Loading ${entry.title} (${(entry.bytes / 1e6).toFixed(1)} MB) …`);
    const student = new Student(entry, page.runtime);
    try {
      await student.open(frame);
    } catch (error) {
      throw new Error(aboutLoading(entry.title, error));
    }
    students.push(student);
  }
  picture.close();
  panels = students.map((student) => new Panel(student));
  const cards = students.map((student) => new Card(student));
  element("panels").replaceChildren(...panels.map((panel) => panel.element));
  element("models").replaceChildren(...cards.map((card) => card.element));
  element("slider").hidden = !students.some((student) => student.hasScores);
  document.title = `${students.map((student) => student.title).join(" and ")} · pose estimation in this browser`;
  cards.forEach((card) => card.tell());
  for (const id of ["choose", "camera", "sample"]) element(id).disabled = false;
  say("Ready.");
  document.documentElement.dataset.ready = "";
  for (const [at, student] of students.entries()) {
    await student.chooseBackend();
    cards[at].tell();
    panels[at].say({ backend: student.backend });
  }
  document.documentElement.dataset.chosen = "";
}

// Closes what is looked at, and looks at what `open` gives; `words` says what to tell where that fails.
async function show(open, words) {
  stop();
  complain("");
  say("Opening …");
  let opened;
  try {
    opened = await open();
  } catch (error) {
    say("");
    complain(words(error));
    return;
  }
  stop(); // what was opened meanwhile
  source = opened;
  students.forEach((student) => student.restart());
  perFrame = new Recent();
  lastDone = null;
  main.dataset.state = "showing";
  element("pause").hidden = element("stop").hidden = !source.isMoving;
  setPaused(false);
  say(source.isMoving ? "Looking at every frame that the device has time for." : "");
  if (source instanceof Camera) offerOtherCamera(source);
  await lookAt(opened);
}

async function offerOtherCamera(camera) {
  const count = await Camera.count();
  element("turn").hidden = source !== camera || count < 2;
}

// Looks at a source until another one takes its place: once at a picture, and at frame after frame of what moves.
async function lookAt(opened) {
  try {
    do {
      if (opened.isMoving) await opened.next();
      if (source !== opened) return;
      await lookOnce(opened);
    } while (opened.isMoving && source === opened);
  } catch (error) {
    stop();
    complain(`The model could not look at this. ${error.message}`);
  }
}

async function lookOnce(opened) {
  const frame = opened.read();
  const found = [];
  // By turns, so that neither takes the other's time.
  for (const student of students) found.push(await student.look(frame, threshold()));
  if (source !== opened) return;
  last = found;
  draw();
  const done = performance.now();
  if (lastDone !== null) perFrame.add(done - lastDone);
  lastDone = done;
  const models = found.map((each, at) => ({
    ...each,
    title: students[at].title,
    network: students[at].networkTimes.median,
    whole: students[at].wholeTimes.median,
  }));
  document.dispatchEvent(new CustomEvent("posestill:frame", { detail: { frame, models } }));
}

function draw() {
  panels.forEach((panel, at) => {
    const limit = students[at].hasScores ? threshold() : 0;
    panel.show(source.canvas, last[at], { threshold: limit, perFrame: source.isMoving ? perFrame.median : null });
  });
}

function stop() {
  source?.close();
  source = null;
  last = [];
  main.dataset.state = "empty";
  for (const id of ["pause", "stop", "turn"]) element(id).hidden = true;
  say("");
}

function setPaused(isPaused) {
  lastDone = null;
  element("pause").setAttribute("aria-pressed", String(isPaused));
  element("pause").textContent = isPaused ? "Go on" : "Pause";
}

function showFile(file) {
  const isVideo = file.type.startsWith("video/");
  return show(() => (isVideo ? Video.open(file) : Picture.open(file)), () => aboutFile(file));
}

const showCamera = () => show(() => Camera.open(facing), aboutCamera);

element("choose").onclick = () => element("file").click();
element("file").onchange = ({ target }) => {
  if (target.files.length) showFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
};
element("camera").onclick = showCamera;
element("sample").onclick = () => show(() => Picture.open(sample), () => "The sample could not be read.");
element("turn").onclick = () => {
  facing = facing === "user" ? "environment" : "user";
  showCamera();
};
element("stop").onclick = () => {
  stop();
  element("choose").focus();
};
element("pause").onclick = async () => {
  await source.pause(!source.isPaused);
  setPaused(source.isPaused);
};
element("threshold").oninput = () => {
  element("threshold-value").textContent = threshold().toFixed(2);
  if (last.length) draw();
};

// The whole page takes what is dropped; the empty stage only shows where.
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = event.dataTransfer.files[0];
  if (file && students.length) showFile(file);
});

load().catch((error) => {
  say("");
  complain(error.message);
});
