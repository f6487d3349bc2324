import torch

from posestill.engine.checkpoint import TrainingState, checksum, load_state, save_state, saved_step


def state(step=7):
    return TrainingState(step, {"w": torch.arange(3.0)}, None, {"lr": 0.1}, None, 0.5, {}, 0)


def test_the_step_of_a_saved_state_is_read_without_the_rest(tmp_path):
    assert saved_step(tmp_path) is None
    save_state(tmp_path, state())
    assert saved_step(tmp_path) == 7
    (tmp_path / "training.pt").write_bytes(b"PK cut off")
    assert saved_step(tmp_path) is None


def test_a_state_from_before_some_fields_were_there_is_read(tmp_path):
    older = {
        key: value for key, value in vars(state()).items() if key not in ("seconds", "evaluated", "method_version")
    }
    torch.save(older, tmp_path / "training.pt")
    found = load_state(tmp_path)
    assert (found.seconds, found.evaluated, found.method_version) == (0.0, True, None)


def test_a_checksum_changes_with_a_bit_a_shape_a_kind_and_a_name():
    weights = torch.arange(4.0)
    moved = weights.clone()
    moved[0] = 1e-30
    states = [
        {"a": weights}, {"a": moved}, {"a": weights.view(2, 2)}, {"a": weights.to(torch.bfloat16)}, {"b": weights},
        {"a": weights, "step": 1}, {"a": [weights, torch.tensor(True)]},
    ]  # fmt: skip
    assert len({checksum(each) for each in states}) == len(states)
    assert checksum({"a": weights.clone()}) == checksum(states[0])
