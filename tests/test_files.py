import errno
import os
import socket
import subprocess
import sys

import pytest

from posestill.files import (
    WRITTEN,
    Outputs,
    check_readable,
    distinct,
    finite,
    not_written,
    read_bytes,
    read_text,
    refuse_taken,
    write_json,
    write_quickly,
    write_whole,
)
from posestill.schema import UserError

FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
"""No file may grow beyond 4,096 bytes: a write fails in the middle, as it does on a full disk."""


def put(outputs, path, text, option="--json"):
    outputs.claim(path, option)
    outputs.write(path, lambda draft: draft.write_text(text))


def test_a_new_file_is_written_with_its_folders_and_remembered_beside_it(tmp_path):
    put(Outputs("evaluate"), tmp_path / "new" / "a.json", "one")
    assert (tmp_path / "new" / "a.json").read_text() == "one"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a.json", WRITTEN}


def test_what_posestill_wrote_is_written_again_without_a_word_as_often_as_one_likes(tmp_path):
    for text in ("one", "two", "three", "one"):
        put(Outputs("evaluate"), tmp_path / "a.json", text)
        assert (tmp_path / "a.json").read_text() == text
    assert len((tmp_path / WRITTEN).read_text().splitlines()) == 3  # what it is, a.json before, a.json now


def test_what_somebody_changed_since_stays_and_the_message_says_what_to_do(tmp_path):
    put(Outputs("evaluate"), tmp_path / "a.json", "one")
    (tmp_path / "a.json").write_text("by hand")
    with pytest.raises(
        UserError, match=r"--json .*a.json is there already, .*choose another name, or give --overwrite"
    ):
        put(Outputs("evaluate"), tmp_path / "a.json", "two")
    assert (tmp_path / "a.json").read_text() == "by hand"
    put(Outputs("evaluate", overwrite=True), tmp_path / "a.json", "two")
    assert (tmp_path / "a.json").read_text() == "two"
    put(Outputs("evaluate"), tmp_path / "a.json", "three")  # by now it is posestill's


def test_what_another_command_or_another_option_wrote_is_not_replaced(tmp_path):
    put(Outputs("label"), tmp_path / "a.json", "hours of work", "--out")
    for command, option in (("evaluate", "--json"), ("predict", "--out"), ("label", "the contact sheet of --out,")):
        with pytest.raises(UserError, match=f"a.json is there already, and not what {command} wrote there"):
            Outputs(command).claim(tmp_path / "a.json", option)
    put(Outputs("label"), tmp_path / "a.json", "again", "--out")


@pytest.mark.parametrize("moved", ["renamed", "copied with its folder's record", "record gone", "record torn"])
def test_a_file_is_posestills_where_its_record_says_so(tmp_path, moved):
    path = tmp_path / "a.json"
    put(Outputs("evaluate"), path, "one")
    record = tmp_path / WRITTEN
    if moved == "renamed":
        path = path.rename(tmp_path / "b.json")
    elif moved == "copied with its folder's record":
        (tmp_path / "copy").mkdir()
        for each in (path, record):
            (tmp_path / "copy" / each.name).write_bytes(each.read_bytes())
        put(Outputs("evaluate"), tmp_path / "copy" / "a.json", "two")
        return
    elif moved == "record gone":
        record.unlink()
    else:
        record.write_text(record.read_text()[:-20])
    with pytest.raises(UserError, match="--overwrite"):
        put(Outputs("evaluate"), path, "two")
    assert path.read_text() == "one"


def test_a_record_that_something_else_wrote_is_no_record_and_stays(tmp_path):
    (tmp_path / WRITTEN).write_text("my own notes\n")
    put(Outputs("evaluate"), tmp_path / "a.json", "one")
    assert (tmp_path / WRITTEN).read_text() == "my own notes\n"
    with pytest.raises(UserError, match="--overwrite"):
        put(Outputs("evaluate"), tmp_path / "a.json", "two")


@pytest.mark.parametrize("way", ["itself", "symbolic link", "hard link", "through a linked folder", "other case"])
def test_a_file_that_the_command_reads_is_not_written_over_by_whatever_name(tmp_path, way):
    (tmp_path / "data").mkdir()
    read, path = tmp_path / "data" / "gt.json", tmp_path / "data" / "gt.json"
    put(Outputs("evaluate"), read, "truth")  # posestill's own output may be an input, too
    if way == "symbolic link":
        path = tmp_path / "link.json"
        path.symlink_to(read)
    elif way == "hard link":
        path = tmp_path / "link.json"
        os.link(read, path)
    elif way == "through a linked folder":
        (tmp_path / "other").symlink_to(tmp_path / "data")
        path = tmp_path / "other" / "gt.json"
    elif way == "other case" and not (tmp_path / "data" / "GT.json").exists():
        return  # two files here
    with pytest.raises(UserError, match="is a file that this command reads: choose another name, or give --overwrite"):
        Outputs("evaluate", read=(read, None, tmp_path / "gone")).claim(path, "--json")
    assert read.read_text() == "truth"


def test_nothing_is_written_through_a_symbolic_link(tmp_path):
    (tmp_path / "precious.jpg").write_text("photograph")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "precious.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nobody.jpg")
    for name in ("link.jpg", "dangling.jpg"):
        with pytest.raises(UserError, match=f"--sheet .*{name} is a symbolic link: .* --overwrite"):
            Outputs("evaluate").claim(tmp_path / name, "--sheet")
        put(Outputs("evaluate", overwrite=True), tmp_path / name, "sheet")
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "precious.jpg").read_text() == "photograph"
    assert not (tmp_path / "nobody.jpg").exists()


def test_a_record_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("photograph")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / WRITTEN).symlink_to(tmp_path / "precious")
    put(Outputs("evaluate"), tmp_path / "out" / "a.json", "one")
    assert (tmp_path / "precious").read_text() == "photograph"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "is a folder: name a file"),
        ("pipe", "is no ordinary file"),
        ("socket", "is no ordinary file"),
        ("device", "is no ordinary file"),
        ("below a file", "is no folder"),
        ("long", "File name too long"),
        ("nul", "no file can have this name"),
        ("half a surrogate pair", "no file can have this name"),
    ],
)
def test_what_cannot_be_a_file_is_refused_with_and_without_overwrite(tmp_path, monkeypatch, overwrite, kind, message):
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    path = tmp_path / "a.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("a.json")
    elif kind == "device":
        path = path.with_name("null")
        try:
            os.mknod(path, 0o20666, os.makedev(1, 3))
        except (OSError, AttributeError):
            pytest.skip("no device can be made here")
    elif kind == "below a file":
        path.write_text("a file")
        path = path / "b.json"
    else:
        path = tmp_path / {"long": "x" * 5000, "nul": "a\0b", "half a surrogate pair": "\ud800"}[kind]
    with pytest.raises(UserError, match=message):
        Outputs("evaluate", overwrite=overwrite).claim(path, "--json")


def test_two_outputs_of_a_command_are_two_files(tmp_path):
    outputs = Outputs("evaluate", overwrite=True)
    outputs.claim(tmp_path / "a.json", "--json")
    with pytest.raises(UserError, match="--save-results .*A.json is also what --json writes"):
        outputs.claim(tmp_path / "." / "A.json", "--save-results")


@pytest.mark.parametrize("write", [write_whole, write_quickly])
def test_a_write_that_fails_says_so_and_leaves_what_was_there(tmp_path, write):
    (tmp_path / "a.txt").write_text("before")

    def half(draft):
        draft.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"a.txt could not be written \(No space left on device\)"):
        write(tmp_path / "a.txt", half)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "before"}


def test_names_that_would_be_one_file_are_numbered():
    assert distinct(["a.png", "b/a.png", "a.png", "A.png"]) == ["a.png", "b/a.png", "a-2.png", "A-3.png"]
    assert distinct(["up.jpg", "up.jpg", "up-2.jpg"]) == ["up.jpg", "up-3.jpg", "up-2.jpg"]
    assert distinct([]) == []


def test_a_folder_of_posestills_own_holds_nothing_else_of_that_name(tmp_path):
    refuse_taken(tmp_path / "new", ["table.md"], what="--results")
    refuse_taken(tmp_path, ["table.md"], what="--results")
    (tmp_path / "table.md").symlink_to("nothing")
    with pytest.raises(UserError, match=r"--results .* holds table.md, which is not posestill's"):
        refuse_taken(tmp_path, ["table.md"], what="--results")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        refuse_taken(tmp_path / "file", [], what="--results")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "image .*gone does not exist"),
        ("file/below", "does not exist"),
        ("folder", "is a folder: a file is wanted"),
        ("pipe", "is a pipe, a socket or a device"),
        ("x" * 5000, r"x{100}.*\.\.\. cannot be read \(File name too long\)"),
        ("\ud800", r"\\ud800 cannot be read \(no file can have this name\)"),
        ("a\0", r"a\\x00 cannot be read"),
        ("loop", "cannot be read"),
        ("bell\a\x1b[2J\nline", r"bell\\x07\\x1b\[2J\\nline does not exist"),
    ],
)
def test_what_is_no_ordinary_file_is_named_and_nothing_waits_for_it(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for read in (check_readable, read_bytes, read_text):
        with pytest.raises(UserError, match=message):
            read(tmp_path / name, what="image")


def test_text_is_read_as_utf_8_with_or_without_its_mark(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf\xc3\xa9")
    assert read_text(tmp_path / "a", what="label file") == "\u00e9"
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"label file .*a is not a text file \(UTF-8\)"):
        read_text(tmp_path / "a", what="label file")


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "figures.json"
    write_json(path, {"AP": 0.5})

    def half(draft):
        draft.write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"figures\.json could not be written \(No space left on device\)"):
        write_whole(path, half)
    assert os.listdir(tmp_path) == ["figures.json"]
    assert path.read_text() == '{\n  "AP": 0.5\n}\n'


def test_a_write_that_is_interrupted_leaves_no_draft_and_stays_an_interrupt(tmp_path):
    def interrupted(draft):
        draft.write_text("{")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", interrupted)
    assert os.listdir(tmp_path) == []


def test_writers_of_one_file_have_drafts_of_their_own(tmp_path):
    seen = []

    def inner(draft):
        seen.append(draft.name)
        draft.write_text("inner")

    def outer(draft):
        draft.write_text("outer")
        write_whole(tmp_path / "a", inner, draft_of="2")
        seen.append(draft.name)

    write_whole(tmp_path / "a", outer, draft_of="1")
    assert seen == [".a.2.draft", ".a.1.draft"]
    assert (tmp_path / "a").read_text() == "outer"


def test_an_error_without_a_number_is_told_in_its_own_words(tmp_path):
    assert "(short write)" in not_written(tmp_path / "a", OSError("short write"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize(
    "write",
    [
        "from posestill.engine.checkpoint import TrainingState, save_state\nimport torch\n"
        "save_state(folder, TrainingState(1, {'w': torch.zeros(5000)}, None, {}, None, None, {}, 0))",
        "from tests.conftest import small_model\nsmall_model().save(folder)",
        "from posestill.files import write_json\nwrite_json(folder / 'a.json', list(range(5000)))",
        "from posestill.engine.log import RunLog\n"
        "RunLog(folder, quiet=True).row({str(each): each for each in range(5000)})",
        "from tests.conftest import DotSource\nfrom posestill.data.crops import CropsConfig, CropsInMemory\n"
        "CropsInMemory(DotSource(8), size=(32, 24), config=CropsConfig(folder=folder))",
    ],
    ids=["checkpoint", "model", "figures", "metrics", "crops"],
)
def test_a_full_disk_ends_every_write_with_one_line_and_without_a_draft(tmp_path, write):
    program = (
        "from pathlib import Path\nfrom posestill.schema import UserError\n"
        f"folder = Path({str(tmp_path)!r})\n{FULL}try:\n"
        + "".join(f"    {line}\n" for line in write.splitlines())
        + "except UserError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=os.getcwd())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "could not be written (File too large)" in done.stdout
    assert not [path for path in tmp_path.rglob("*") if "draft" in path.name]


def test_json_files_hold_no_nan(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": float("nan"), "y": [float("inf"), 1.0]})
    assert (tmp_path / "a" / "b.json").read_text().split() == [
        "{",
        '"x":',
        "null,",
        '"y":',
        "[",
        "null,",
        "1.0",
        "]",
        "}",
    ]
    assert finite((1, {"a": float("-inf")})) == [1, {"a": None}]
