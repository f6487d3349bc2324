"""The commands and programs of README and docs run, or say what they need; every page has its place in the site."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from posestill import catalog
from posestill.cli.main import main
from posestill.engine.config import load_plugin, load_run, recipe_names
from posestill.skeletons import COCO_17
from tests.conftest import small_model
from tests.networks import write_detector, write_photos, write_teacher
from tests.predict.clips import write_clip

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- ([^>]*) -->\n)?^```(\w*)\n(.*?)^```", flags=re.M | re.S)
COMMAND = re.compile(r"^(?:\$ )?(posestill|python|pip|make|torchrun) ")
NEEDS = ("COCO", "a GPU", "the Hub", "the photographs of shared/lsp-photos")
RUN_ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    **dict.fromkeys(
        ("docs/browser.md", "docs/many-machines.md", "docs/performance.md", "docs/published.md"),
        "tests/cli/test_fresh_process.py",
    ),
}
"""pages whose commands are run by tests of their own; those of all others are run below, in short"""


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """Of each fenced block: the comment in the line before it, its language and its lines."""
    return [(mark, language, text.splitlines()) for mark, language, text in BLOCK.findall(page.read_text())]


def commands(page):
    """What the page's bash blocks say to type, each as words."""
    lines = [line for _, language, text in blocks(page) if language == "bash" for line in text]
    return [shlex.split(line, comments=True) for line in lines]


def programs(page):
    return ["\n".join(text) for _, language, text in blocks(page) if language == "python"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_is_run_by_a_test_or_says_what_it_needs(page):
    for mark, language, lines in blocks(page):
        if language == "bash" and name(page) in RUN_ELSEWHERE:
            continue
        if language == "bash":
            assert all(line.startswith("posestill ") for line in lines), lines
        elif any(COMMAND.match(line) for line in lines):
            needs = re.fullmatch(r"not run by the tests: needs (.*)", mark)
            tests = re.findall(r"tests/[\w/]+\.py(?:::\w+)?", mark) if mark.startswith("run by ") else []
            assert tests or (needs and needs[1] in NEEDS), f"say by which test it is run, or what it needs: {lines}"
            for path, _, function in (test.partition("::") for test in tests):
                assert (ROOT / path).is_file()
                assert f"def {function}" in (ROOT / path).read_text()


def printed_runs():
    """The recipe and the changes of each training that the docs print and that no test runs as it stands."""
    found = []
    for page in PAGES:
        for mark, _, lines in blocks(page):
            for line in lines if mark.startswith("not run by the tests") else []:
                _, verb, recipe, *options = shlex.split(line, comments=True)
                if verb not in ("train", "distil"):
                    continue
                told = zip(options[::2], options[1::2], strict=True)
                told = [(option, value) for option, value in told if option != "--out"]
                found.append((recipe, [value if option == "--set" else f"teacher={value}" for option, value in told]))
    return found


@pytest.mark.parametrize(("recipe", "changes"), printed_runs())
def test_recipes_and_settings_of_commands_that_are_not_run_exist(recipe, changes):
    assert recipe in recipe_names()
    load_run(recipe, changes)


def test_a_page_that_tests_of_its_own_run_is_named_in_them():
    for page, test in RUN_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text()


def test_every_page_has_its_place_in_the_site():
    def named(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for each in (entry.values() if isinstance(entry, dict) else entry) for page in named(each)]

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(named(site["nav"])) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:])


def test_the_front_page_is_short_and_the_others_fit_on_a_few_screens():
    for page in PAGES:
        text = re.sub(r"^```.*?^```\n|<!--.*?-->", "", page.read_text(), flags=re.M | re.S)
        words = sum(any(map(str.isalnum, word)) for word in text.split())
        assert words <= (800 if page.name == "README.md" else 1600), name(page)


def test_whoever_follows_several_pages_is_refused_by_no_folder_of_an_earlier_one():
    """A run never writes over another one, so each training that the docs show has a folder of its own."""
    owners = {}
    for page in PAGES:
        for _, _, text in blocks(page):
            for line in text:
                words = line.split("  #")[0].split()
                if words[:2] in (["posestill", "train"], ["posestill", "distil"]) and "--out" in words:
                    owners.setdefault(words[words.index("--out") + 1], set()).add(line)
    assert len(owners) > 20
    assert {folder: lines for folder, lines in owners.items() if len(lines) > 1} == {}


@pytest.fixture
def bed(tmp_path, sample_folder):
    """A folder in which a page's commands find what they name, but for what they write themselves."""

    def prepare(page):
        made = [words[-1] if words[1:3] == ["data", "sample"] else None for words in commands(page)]
        written = {words[words.index("--out") + 1] for words in commands(page) if "--out" in words}
        if "data/sample" not in made:
            (tmp_path / "data").mkdir()
            (tmp_path / "data" / "sample").symlink_to(sample_folder)
        if "runs/sample" not in written:
            small_model(skeleton=COCO_17).save(tmp_path / "runs" / "sample" / "best")
        for path in write_photos(tmp_path / "photos", 6, size=(60, 40)).iterdir():
            path.rename(path.with_suffix(".jpg"))
        (tmp_path / "boxes.json").write_text(json.dumps({"1.jpg": [[5, 5, 20, 50]]}))
        write_clip(tmp_path / "walk.mp4", 4)
        write_detector(tmp_path / "detector.onnx")
        write_teacher(tmp_path / "movenet-thunder.onnx")
        (tmp_path / "my_method.py").write_text(programs(ROOT / "docs" / "own-method.md")[0])
        return tmp_path

    return prepare


def in_short(words, page):
    """The same command with a training of a few steps: as many as an export's gate needs to tell files apart."""
    if words[1] not in ("train", "distil"):
        return words
    if "--images" in words:
        return [*words, "--steps", "2"]
    exports = any(each[1] == "export" for each in commands(page))
    return [
        *words,
        "--set",
        f"train.steps={120 if exports else 2}",
        "--set",
        f"train.batch_size={32 if exports else 8}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if name(page) not in RUN_ELSEWHERE and commands(page)], ids=name
)
def test_the_commands_of_a_page_run_in_their_order(page, bed, monkeypatch, capsys):
    """In one process: each verb also has a test in a process of its own (tests/cli/test_fresh_process.py)."""
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(bed(page))
    for words in commands(page):
        monkeypatch.setattr(sys, "argv", in_short(words, page))
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        finally:
            catalog.METHODS.pop("mine", None)  # which docs/own-method.md plugs in
        assert status == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"


@pytest.mark.slow
def test_the_program_of_the_first_page_runs(bed):
    page = ROOT / "docs" / "index.md"
    program = programs(page)[0] + "\nprint(poses.shape)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=bed(page), capture_output=True, text=True, timeout=600)
    assert done.stdout == "(1, 17, 3)\n", done.stderr


def test_the_source_of_the_docs_can_be_plugged_in_and_reads_its_file(tmp_path, monkeypatch, sample_folder):
    (tmp_path / "my_source.py").write_text(programs(ROOT / "docs" / "own-dataset.md")[0])
    picture = sorted((sample_folder / "val").glob("*.jpg"))[0]
    keypoints = ",".join(f"{10 + each},{20 + each},2" for each in range(17))
    (tmp_path / "people.csv").write_text(f"{picture},5,6,40,80,{keypoints}\n")
    load_plugin(tmp_path / "my_source.py")
    try:
        run = load_run("sample", [f"data.train={{name: rows, file: {tmp_path}/people.csv}}"])
        source = run.data.train.build()
    finally:
        catalog.SOURCES.pop("rows")
    (person,) = source.people
    assert person.bbox.tolist() == [5, 6, 40, 80]
    assert person.keypoints[16].tolist() == [26, 36, 2]
    assert source.image(person.image_id).shape[2] == 3
    assert list(source.image_ids) == [person.image_id]


def test_what_the_docs_show_of_adding_things_is_short():
    """A method with a teacher in at most 80 lines, as everything that a reader must write."""
    for page in ("own-method.md", "own-dataset.md", "own-layout.md"):
        shown = [text for _, language, text in blocks(ROOT / "docs" / page) if language in ("python", "yaml")]
        assert 0 < sum(map(len, shown)) <= 80


def site_files():
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_files", ROOT / ".ci" / "site_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_to_the_repository_lead_to_copies_in_the_site():
    from types import SimpleNamespace

    page = SimpleNamespace(file=SimpleNamespace(src_uri="studies/ocd.md"))
    text = "[a](../../results/protocol-ocd/table.md) [b](../methods/ocd.md) [c](../../nothing.json)"
    assert site_files().on_page_markdown(text, page, None, None) == (
        "[a](../repository/results/protocol-ocd/table.md.txt) [b](../methods/ocd.md) [c](../../nothing.json)"
    )
