"""The page in a headless Chromium, from a plain file server: what it finds, what it asks for, and what it says."""

import base64
import itertools

import cv2
import numpy as np
import pytest

from posestill.deploy.page import build_page
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.web_runtime import find_runtime
from posestill.deploy.write import Writer
from posestill.draw import write_image
from posestill.files import Outputs
from posestill.geometry import bbox_of_joints
from posestill.models.pose_model import PoseModel
from posestill.predict.predictor import Predictor
from posestill.skeletons import COCO_17
from posestill.teachers.checkpoint import BUNDLED
from tests.browser import Browser, camera_flags, chromium, served, web_runtime
from tests.conftest import small_model
from tests.predict.clips import number_of, walking_person, write_y4m

pytestmark = pytest.mark.slow

WATCH = """
    window.seen = [];
    document.addEventListener("posestill:frame", ({ detail: { frame, models } }) => {
      const canvas = new OffscreenCanvas(frame.width, frame.height);
      canvas.getContext("2d").putImageData(frame, 0, 0);
      const kept = { models };
      seen.push(kept);
      canvas.convertToBlob({ type: "image/png" }).then((blob) => blob.arrayBuffer()).then((bytes) => {
        kept.png = btoa(Array.from(new Uint8Array(bytes), (each) => String.fromCharCode(each)).join(""));
      });
    });
"""
"""keeps every frame that the page looks at and what its models find in it"""
THRESHOLD = 0.2
"""from which on the page takes a keypoint for sure"""
READY = "document.querySelector('[data-chosen]') !== null"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A page of two models from a plain server, the clip that its camera sees, and the browser.

    The first model is the bundled teacher; the second one has no trained scores, and nothing has trained it.
    """
    pytest.importorskip("onnxscript")
    folder, runtime, _ = tmp_path_factory.mktemp("browser"), web_runtime(), chromium()
    models = [PoseModel.load(BUNDLED), small_model("coords", skeleton=COCO_17).eval()]
    for name, model in zip(("teacher", "coords"), models, strict=True):
        (folder / name).mkdir()
        Writer(model, folder / name).write(TARGETS["onnx"], "fp32")
    build_page([folder / "teacher", folder / "coords"], find_runtime(runtime), folder / "page", Outputs("page"))
    clip = write_y4m(folder / "clip.y4m", walking_person(12))
    with served(folder / "page") as address, Browser(*camera_flags(folder / "clip.y4m")) as browser:
        predictors = [Predictor(model, device="cpu") for model in models]
        yield {"predictors": predictors, "clip": clip, "address": address, "browser": browser}


@pytest.fixture(scope="module")
def page(world):
    """The page, loaded once, with every frame that it looks at kept."""
    found = world["browser"].open(world["address"])
    found.resize(1200, 900)
    found.wait_for(READY)
    found.run(WATCH)
    return found


def click(page, name):
    page.run(f"seen.length = 0; document.getElementById('{name}').click()")


def frames(page, count):
    """So many frames that the page looked at: the picture (H, W, 3), and what each model found."""
    page.wait_for(f"seen.length >= {count} && seen.slice(0, {count}).every((each) => each.png)")
    found = []
    for each in page.run(f"seen.slice(0, {count})"):
        png = np.frombuffer(base64.b64decode(each["png"]), dtype=np.uint8)
        found.append((np.ascontiguousarray(cv2.imdecode(png, cv2.IMREAD_COLOR)[:, :, ::-1]), each["models"]))
    return found


def px_apart(predictor, picture, found):
    """px between the page's keypoints and those that `Predictor` finds in the same box of a picture, (K,)."""
    own = predictor.predict(picture, [found["box"]])[0]
    return np.linalg.norm(own[:, :2] - np.array(found["pose"])[:, :2], axis=1)


def said(page, selector):
    return page.run(f"document.querySelector('{selector}').innerText")


def test_keypoints_on_the_sample_picture_are_those_of_python_to_a_px(world, page):
    click(page, "sample")
    ((picture, found),) = frames(page, 1)
    assert picture.shape == (480, 360, 3)
    for predictor, each in zip(world["predictors"], found, strict=True):
        assert px_apart(predictor, picture, each).max() < 1
    assert found[0]["isFound"]
    assert found[0]["box"] != [0, 0, 360, 480]  # the person is looked at from near by


def test_keypoints_over_a_clip_from_the_camera_are_those_of_python_to_a_px(world, page):
    click(page, "camera")
    seen = frames(page, 15)
    click(page, "stop")
    teacher = world["predictors"][0]
    numbers = [number_of(picture) for picture, _ in seen]
    assert len(set(numbers)) >= 8, numbers
    for (picture, (found, _)), number in zip(seen, numbers, strict=True):
        assert px_apart(teacher, picture, found).max() < 1
        assert np.median(px_apart(teacher, world["clip"][number], found)) < 1  # what Python reads in the file
    for (_, (before, _)), (_, (after, _)) in itertools.pairwise(seen):
        pose = np.array(before["pose"])
        assert before["isFound"]
        np.testing.assert_allclose(after["box"], bbox_of_joints(pose[pose[:, 2] >= THRESHOLD, :2]), atol=1e-6)


def test_another_source_begins_with_nobody_to_follow(page):
    click(page, "sample")
    ((_, first),) = frames(page, 1)
    click(page, "camera")
    frames(page, 3)
    click(page, "sample")  # while the camera's frame is still being looked at
    ((_, again),) = frames(page, 1)
    assert again[0]["pose"] == first[0]["pose"]


def test_a_dropped_picture_is_looked_at_as_a_chosen_one_is(page, tmp_path):
    write_image(tmp_path / "person.png", walking_person(1)[0])
    page.run("seen.length = 0")
    page.choose_file("#file", tmp_path / "person.png")
    ((_, chosen),) = frames(page, 1)
    encoded = base64.b64encode((tmp_path / "person.png").read_bytes()).decode()
    page.run(f"""{{
      seen.length = 0;
      const bytes = Uint8Array.from(atob("{encoded}"), (each) => each.charCodeAt());
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], "person.png", {{ type: "image/png" }}));
      document.body.dispatchEvent(new DragEvent("drop", {{ bubbles: true, cancelable: true, dataTransfer }}));
    }}""")
    ((_, dropped),) = frames(page, 1)
    assert dropped[0]["pose"] == chosen[0]["pose"]


def test_a_video_is_followed_frame_by_frame_and_can_be_paused(page, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "walk.webm"), cv2.VideoWriter.fourcc(*"VP80"), 10.0, (320, 240))
    for frame in walking_person(12):
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    page.run("seen.length = 0")
    page.choose_file("#file", tmp_path / "walk.webm")
    assert len({number_of(picture) for picture, _ in frames(page, 6)}) >= 4
    page.run("document.getElementById('pause').click()")
    page.wait_for("document.getElementById('pause').innerText === 'Go on'")
    click(page, "stop")
    assert page.run("document.querySelector('main').dataset.state") == "empty"


def test_a_file_that_is_no_picture_is_told_in_words(page, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    page.choose_file("#file", tmp_path / "notes.png")
    page.wait_for("!document.getElementById('problem').hidden")
    assert said(page, "#problem").startswith("notes.png (image/png) could not be read.")


def test_the_page_says_what_runs_and_that_a_model_has_no_scores(page):
    cards = [page.run(f"document.querySelectorAll('.card')[{at}].innerText") for at in (0, 1)]
    assert all("Runs on WebAssembly" in card for card in cards)
    assert "no trained scores" not in cards[0]
    assert "This model gives no trained scores" in cards[1]
    assert page.run("document.querySelectorAll('.badge')[0].innerText") == "WebAssembly"


def test_each_model_has_its_drawing_and_its_milliseconds(page):
    click(page, "sample")
    frames(page, 1)
    for at in (0, 1):
        assert page.run(f"parseFloat(document.querySelectorAll('.network')[{at}].innerText)") > 0
        assert page.run(f"document.querySelectorAll('canvas')[{at}].width") == 540  # 720 px high
    drawn = page.run("""{
      const canvas = document.querySelector("canvas");
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let warm = 0;
      for (let px = 0; px < data.length; px += 4)
        warm += data[px] === 255 && data[px + 1] === 140 && data[px + 2] === 40;
      warm;
    }""")
    assert drawn > 20  # px of the left side's colour
    assert "17 of 17 keypoints" in page.run("document.querySelector('canvas').getAttribute('aria-label')")


@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_reaches_beyond_the_screen(page, width):
    page.resize(width, 800)
    click(page, "sample")
    frames(page, 1)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.resize(1200, 900)


def test_every_control_has_a_name_and_can_be_reached_by_the_keyboard(page):
    names = page.run("""
      [...document.querySelectorAll("button, input")].filter((each) => each.offsetParent)
        .map((each) => (each.innerText || each.labels[0].innerText).trim())""")
    assert len(names) >= 4
    assert all(names)
    page.run("document.getElementById('choose').focus()")
    reached = []
    for _ in range(3):
        reached.append(page.run("document.activeElement.id"))
        for kind in ("keyDown", "keyUp"):
            page.tell("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert reached == ["choose", "camera", "sample"]


def test_nothing_is_asked_for_elsewhere_and_the_browser_would_refuse_it(world, page):
    browser = world["browser"]
    assert len(browser.requests) > 20  # those of the workers among them
    assert any(address.endswith(".wasm") for address in browser.requests)
    for address in browser.requests:
        assert address.startswith((world["address"], "blob:", "data:")), address
    assert browser.faults == []
    with served(".") as elsewhere:
        assert page.run(f"fetch('{elsewhere}').then(() => 'sent', () => 'refused')") == "refused"
        assert "connect-src" in page.run(f"""new Promise((resolve) => {{
          addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective), {{ once: true }});
          fetch("{elsewhere}").catch(() => 0);
        }})""")
