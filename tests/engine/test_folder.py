import pytest
import yaml

from posestill.engine.config import dump_run
from posestill.engine.folder import check_folder, held_by_this_run, write_description
from posestill.schema import UserError
from tests.conftest import small_run

OPTIMISER = {"learning_rate": 3e-3, "warmup_steps": 2}


def lengthened(steps, **optimiser):
    return small_run(train={"steps": steps, "batch_size": 8, "log_every": 2, "optimiser": {**OPTIMISER, **optimiser}})


def check(config, folder, *, reached=None, follows_progress=False):
    check_folder(config, folder, resume=True, reached=reached, follows_progress=follows_progress)


def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path):
    with held_by_this_run(tmp_path / "run"):
        with (
            pytest.raises(UserError, match=r"run is being trained into by process \d+ on "),
            held_by_this_run(tmp_path / "run"),
        ):
            pass
        assert (tmp_path / "run" / ".lock").is_file()
    with held_by_this_run(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_setting_that_the_folder_is_older_than_counts_as_its_default(tmp_path):
    config = small_run()
    older = yaml.safe_load(dump_run(config))
    del older["train"]["save_every_minutes"], older["data"]["split_seed"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(older))
    check(config, tmp_path)
    other = config.model_copy(update={"data": config.data.model_copy(update={"split_seed": 1})})
    with pytest.raises(UserError, match=r"another run: data\.split_seed was not there and is now 1"):
        check(other, tmp_path)


def test_a_constant_schedule_can_be_made_longer_and_a_cosine_cannot_once_it_has_begun(tmp_path):
    write_description(tmp_path, lengthened(6))
    check(lengthened(9), tmp_path, reached=6)
    with pytest.raises(UserError, match=r"train\.steps was 6 and is now 9, but the weights of the method's losses"):
        check(lengthened(9), tmp_path, reached=6, follows_progress=True)
    write_description(tmp_path, lengthened(6, schedule="cosine"))
    check(lengthened(9, schedule="cosine"), tmp_path)
    with pytest.raises(UserError, match=r"is now 9, but the learning rate falls along a cosine to the end of the run"):
        check(lengthened(9, schedule="cosine"), tmp_path, reached=3)


def test_another_length_does_not_hide_another_setting(tmp_path):
    write_description(tmp_path, lengthened(6))
    with pytest.raises(UserError, match=r"another run: train\.optimiser\.learning_rate was 0\.003 and is now 0\.1"):
        check(lengthened(9, learning_rate=0.1), tmp_path)


def test_steps_do_not_become_epochs(tmp_path):
    write_description(tmp_path, lengthened(6))
    in_epochs = small_run(train={"epochs": 6, "batch_size": 8, "log_every": 2, "optimiser": OPTIMISER})
    with pytest.raises(UserError, match=r"train\.epochs was null and is now 6"):
        check(in_epochs, tmp_path)


def test_an_empty_description_blocks_no_resume_and_a_broken_one_is_named(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"")
    check(small_run(), tmp_path)
    for broken in (b"- a", b"a: [", b"\xff\xfe"):
        (tmp_path / "config.yaml").write_bytes(broken)
        with pytest.raises(UserError, match=r"config\.yaml is broken: write its settings anew"):
            check(small_run(), tmp_path)
