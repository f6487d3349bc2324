"""What the tests of the command line share: a small recipe, and a command run in this process."""

import sys

import pytest

from posestill.cli.main import main

RECIPE = """
data:
  train: {name: synthetic, people: 16, size: [64, 48]}
  val: {name: synthetic, people: 8, size: [64, 48], seed: 9}
model:
  size: [32, 24]
  backbone: {name: small_resnet, channels: [8, 16], max_pool: false}
  head: flat_fc
  codec: coords
method: supervised
train: {steps: 4, batch_size: 4, log_every: 2, optimiser: {learning_rate: 1e-3, warmup_steps: 2}}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def posestill(monkeypatch, capsys):
    """Runs a command in this process; returns its exit status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["posestill", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
