"""The scripts of the page under Node, each by itself, beside what Python does."""

import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

from posestill.draw import _thickness
from posestill.geometry import bbox_of_joints
from posestill.predict.tracks import LEAST_SURE_KEYPOINTS

pytestmark = pytest.mark.slow


def node(folder, body, **files):
    """What a program prints, as JSON, that lies beside the page's scripts."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    assets = resources.files("posestill") / "assets"
    for script in (each for each in (assets / "web").iterdir() if each.name.endswith(".js")):
        (folder / script.name).write_text(script.read_text())
    (folder / "decode.js").write_text((assets / "decode.mjs").read_text())
    (folder / "package.json").write_text('{"type": "module"}')
    for name, content in files.items():
        (folder / f"{name}.js").write_text(content)
    (folder / "run.js").write_text(body)
    done = subprocess.run(["node", "run.js"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_box_of_a_person_is_the_one_that_predict_follows(tmp_path):
    points = np.random.default_rng(0).uniform(0, 200, (20, 5, 2)) * [[1, 0.1]]
    found = node(tmp_path, f"""
        import {{ boxOfJoints }} from "./person.js";
        console.log(JSON.stringify({points.tolist()}.map(boxOfJoints)));""")  # fmt: skip
    np.testing.assert_allclose(found, [bbox_of_joints(each) for each in points])


def test_a_person_is_found_where_enough_keypoints_are_sure_spread_and_inside(tmp_path):
    found = node(tmp_path, """
        import { boxOfPose } from "./person.js";
        const frame = { width: 100, height: 100 };
        const line = (count, score, x = 0) =>
          Array.from({ length: 8 }, (_, k) => [x + 10 * k, 50, k < count ? score : 0.1]);
        console.log(JSON.stringify({
          enough: boxOfPose(line(2, 0.2), 0.2, frame) !== null,
          few: boxOfPose(line(1, 0.9), 0.2, frame) !== null,
          unsure: boxOfPose(line(8, 0.19), 0.2, frame) !== null,
          outside: boxOfPose(line(8, 0.9, 80), 0.2, frame) !== null,
          heap: boxOfPose(line(8, 0.9).map(([, , score]) => [50, 50, score]), 0.2, frame) !== null,
          lost: boxOfPose(line(8, 0.9).map(([x, , score]) => [x, NaN, score]), 0.2, frame) !== null,
        }));""")  # fmt: skip
    assert LEAST_SURE_KEYPOINTS == 2 / 8
    assert found == {
        "enough": True, "few": False, "unsure": False, "outside": False, "heap": False, "lost": False,
    }  # fmt: skip


FOLLOWED = """
    import { Follower } from "./person.js";
    const frame = { width: 100, height: 100 };
    const pose = (score, x = 40, size = 20) => [[x, 40, score], [x + size, 40 + size, score]];
    const boxes = [];
    async function look(follower, answers) {
      for (const answer of answers) {
        const found = await follower.look(frame, 0.5, async (box) => (boxes.push(box), answer));
        boxes.push(found.isFound);
      }
      console.log(JSON.stringify(boxes));
    }
"""
FRAME = [0, 0, 100, 100]
NEAR = [38, 38, 24, 24]
"""the box around the keypoints (40, 40) and (60, 60), 1.2 times as large"""


def test_the_frame_is_looked_at_first_then_the_person_and_the_frame_again_when_the_score_falls(tmp_path):
    found = node(tmp_path, f"{FOLLOWED} look(new Follower(true), [pose(0.9), pose(0.9), pose(0.1), pose(0.1)]);")
    assert found == [FRAME, NEAR, True, NEAR, True, NEAR, False, FRAME, False]


def test_a_model_without_scores_loses_the_person_when_the_keypoints_jump(tmp_path):
    found = node(tmp_path, f"{FOLLOWED} look(new Follower(false), [pose(1), pose(1, 41), pose(1, 70), pose(1, 70)]);")
    moved = [39, 38, 24, 24]
    assert found[:5] == [FRAME, NEAR, True, NEAR, True]
    assert found[5:7] == [moved, False]  # 29 px are more than half of 24
    assert found[7] == FRAME


def test_a_model_without_scores_looks_at_the_whole_frame_again_after_30_frames(tmp_path):
    found = node(tmp_path, f"{FOLLOWED} look(new Follower(false), Array(32).fill(pose(1)));")
    assert [at for at, each in enumerate(found) if each == FRAME] == [0, 61]  # 1 + 2 * 30 answers and signs later


def test_lines_are_as_thick_as_those_of_predict(tmp_path):
    rng = np.random.default_rng(0)
    cases = [(rng.uniform(0, extent, (9, 2)), total) for extent in (20, 300) for total in (17, 133)]
    cases.append((np.zeros((0, 2)), 17))
    given = json.dumps([[points.tolist(), total] for points, total in cases])
    found = node(tmp_path, f"""
        import {{ thickness }} from "./draw.js";
        console.log(JSON.stringify({given}.map(([points, count]) => thickness(points, count, 1200))));""")  # fmt: skip
    assert found == [min(10, _thickness(points, total)) for points, total in cases]


def test_times_and_counts_are_told_as_people_read_them(tmp_path):
    found = node(tmp_path, """
        import { milliseconds, rate, roughly } from "./words.js";
        console.log(JSON.stringify([milliseconds(null), milliseconds(4.26), milliseconds(42.6), rate(40), rate(400),
          roughly(5364101), roughly(12345), roughly(12)]));""")  # fmt: skip
    assert found == ["–", "4.3 ms", "43 ms", "25", "2.5", "5.4 million", "12 thousand", "12"]


def test_what_goes_wrong_is_told_in_words(tmp_path):
    found = node(tmp_path, """
        import { aboutCamera, aboutFile } from "./words.js";
        const errors = ["NotAllowedError", "NotFoundError", "InsecureContext", "Other"];
        console.log(JSON.stringify([...errors.map((name) => aboutCamera({ name, message: "" })),
          aboutFile({ name: "a.txt", type: "" })]));""")  # fmt: skip
    for told, words in zip(
        found, ("was not allowed", "no camera", "over https", "could not be used (Other)", "a.txt"), strict=True
    ):
        assert words in told


RUNTIME = """
    export class Tensor {}
    export const env = { wasm: {} };
    export const InferenceSession = {
      create: async (_, { executionProviders }) => ({
        run: async () => {
          const isGpu = executionProviders[0] === "webgpu";
          globalThis.clock += isGpu ? SLOW : 3;
          return { keypoints: { dims: [1, 1, 3], data: [10 + (isGpu ? MOVED : 0), 20, 0.9 - (isGpu ? FELL : 0)] } };
        },
      }),
    };
"""
CHOICES = {
    "where it agrees": ({}, "WebGPU", "where WebAssembly does"),
    "not where keypoints lie elsewhere": ({"MOVED": 0.6}, "WebAssembly", "elsewhere, 0.6 px apart"),
    "not where scores differ": ({"FELL": 0.1}, "WebAssembly", "scores the sample’s keypoints otherwise"),
    "not where it is slower": ({"SLOW": 9}, "WebAssembly", "slower here (9.0 ms against 3.0 ms)"),
    "not where there is none": ({"GPU": "undefined"}, "WebAssembly", "no WebGPU here"),
    "not where a browser lends none": ({"ADAPTER": "null"}, "WebAssembly", "no WebGPU here"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_webgpu_is_taken(tmp_path, case):
    changes, backend, words = CHOICES[case]
    body = """
        globalThis.self = globalThis;
        globalThis.clock = 0;
        globalThis.performance = { now: () => globalThis.clock };
        const adapter = ADAPTER;
        const navigator = { gpu: GPU };
        Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
        globalThis.fetch = async () => ({ ok: true, arrayBuffer: async () => new ArrayBuffer(1) });
        const answers = [];
        let answered;
        self.postMessage = (message) => (answers.push(message), answered());
        const ask = (data) => new Promise((resolve) => ((answered = resolve), self.onmessage({ data })));
        await import("./network.js");
        const sidecar = { size: [2, 2], input: { name: "image", order: "nchw" }, codec: {} };
        const files = { module: "./runtime.js" };
        const runtime = { wasm: files, webgpu: files };
        await ask({ id: 1, kind: "open", model: "m", sidecar, runtime, crop: new Uint8Array(12) });
        await ask({ id: 2, kind: "choose" });
        console.log(JSON.stringify(answers));"""
    lent = {"GPU": "{ requestAdapter: async () => adapter }", "ADAPTER": "{}"}
    values, runtime = {"SLOW": 0, "MOVED": 0, "FELL": 0} | lent | changes, RUNTIME
    for name, value in values.items():
        body, runtime = body.replace(name, str(value)), runtime.replace(name, str(value))
    opened, chosen = node(tmp_path, body, runtime=runtime)
    assert opened["answer"]["keypoints"] == [[10, 20, 0.9]]
    assert chosen["answer"]["backend"] == backend
    assert words in chosen["answer"]["why"]
