"""A dataset so small that a test may copy and spoil it."""

from pathlib import Path

import pytest

from posestill.data.synthetic.sample import write_sample


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound COCO tree of 12 pictures to train on and 4 to validate; for reading and copying only."""
    folder = tmp_path_factory.mktemp("tiny") / "coco"
    write_sample(folder, pictures=16)
    return folder


@pytest.fixture(scope="session")
def tiny_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as a YOLO-pose folder."""
    folder = tmp_path_factory.mktemp("tiny") / "yolo"
    write_sample(folder, pictures=16, yolo=True)
    return folder
