import errno
import os
import subprocess
import sys

import pytest

from posestill.files import not_written, write_json, write_whole
from posestill.schema import UserError

FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
"""No file may grow beyond 4,096 bytes: a write fails in the middle, as it does on a full disk."""


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
