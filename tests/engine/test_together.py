import pytest
import torch

from posestill.engine import together
from posestill.engine.together import Beginning, Signals, agree, agree_on_state, company, sent_by_the_first
from posestill.schema import UserError

OWN = Beginning(settings="s", weights="w", reached=None, host="one")


def of(**changes):
    return Beginning(**{**vars(OWN), "host": "other", **changes})


@pytest.fixture
def others(monkeypatch):
    """Say what the other processes tell; this one is the first."""

    def tell(*values):
        monkeypatch.setattr(together, "gathered", lambda own: [own, *values])

    return tell


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (of(error="no such file x"), "process 1 on other cannot begin: no such file x"),
        (of(settings="t"), "process 0 on one and process 1 on other have other settings or other persons"),
        (of(weights="v"), "begin with other weights"),
        (of(reached=60), "process 0 on one finds no state in the run folder and process 1 on other that of step 60"),
    ],
)
def test_no_process_begins_where_one_begins_otherwise(others, other, said):
    others(other)
    with pytest.raises(UserError, match=said):
        agree(OWN)


def test_a_process_tells_its_own_error_in_its_own_words(others):
    others(of())
    with pytest.raises(UserError, match=r"^mine$"):
        agree(Beginning(**{**vars(OWN), "error": "mine"}))


def test_a_process_without_the_first_ones_state_is_sent_it(others):
    others(of(reached=5))
    assert not agree(of(reached=5))
    others(of())
    assert agree(of(reached=5))


def test_no_process_goes_on_from_another_state(others):
    others("b")
    with pytest.raises(UserError, match="process 0 and process 1 would train from different weights at step 7"):
        agree_on_state("a", 7)
    others("a")
    agree_on_state("a", 7)


def test_one_process_hears_itself_alone():
    assert agree(OWN) is False
    assert sent_by_the_first("value", torch.device("cpu")) == "value"
    assert Signals(torch.device("cpu")).exchange(stop=True, save=False) == (True, False)


@pytest.mark.parametrize("text", ["Connection closed by peer [127.0.0.1]:4", "NCCL communicator was aborted"])
def test_a_lost_process_is_one_line_for_those_that_are_left(text):
    with pytest.raises(UserError, match=r"another process of this run has ended, .* --resume goes on"), company(2):
        raise RuntimeError(text)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), company(2):
        raise RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="Connection closed"), company(1):
        raise RuntimeError("Connection closed by peer")
