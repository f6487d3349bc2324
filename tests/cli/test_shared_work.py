"""Options by which several machines share a verb's work, where they are given in a way that cannot be meant."""

import builtins

import pytest

COMPARE, LABEL, CACHE = ("compare", "plan.yaml"), ("label", "p", "--teacher", "t.onnx", "--out", "o.json"), (
    "teacher", "cache", "recipe.yaml",
)  # fmt: skip


@pytest.mark.parametrize("verb", [COMPARE, LABEL, CACHE], ids=lambda verb: verb[0])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shard", "two"), "--shard two: write it as I/N, such as 2/4 for the second of four"),
        (("--shard", "0/4"), "--shard 0/4: of 4 shards the first is 1/4 and the last 4/4"),
        (("--shard", "1/2", "--on", "ray"), "--shard and --on both share the work out: give one of them"),
        (("--on", "slurm"), "--on slurm: it is ray, or ray://HOST:PORT"),
        (("--on", "ray", "--gpus", "1.5"), "--gpus 1.5: a share of one GPU such as 0.25, or a whole number of them"),
        (("--gpus", "0.5"), "--gpus says how many GPUs of a cluster a run has: it needs --on"),
    ],
)
def test_options_that_cannot_be_meant_are_told_in_one_line_before_anything_is_done(
    posestill, recipe, monkeypatch, verb, options, words
):
    monkeypatch.chdir(recipe.parent)
    recipe.rename("recipe.yaml")
    (recipe.parent / "p").mkdir()
    status, out, err = posestill(*verb, *options)
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith(f"posestill: {words}")


def test_waiting_is_for_shards(posestill):
    status, _, err = posestill(*COMPARE, "--wait")
    assert (status, err) == (
        2, "posestill: --wait is for a shard, which may need what others have in hand: give --shard I/N, too\n"
    )  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--shard", "1/2")])
def test_a_recipe_that_keeps_no_answers_cannot_have_them_filled(posestill, recipe, options):
    status, _, err = posestill("teacher", "cache", recipe, *options)
    assert status == 2
    assert err.startswith(
        "posestill: teacher.cache.folder: this run keeps no answers of a teacher on disk: name a fold"
    )


def test_without_ray_one_line_says_how_to_get_it(posestill, recipe, monkeypatch):
    import_module = builtins.__import__

    def without(name, *more):
        if name == "ray":
            raise ImportError(name)
        return import_module(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    status, _, err = posestill("compare", "plan.yaml", "--on", "ray")
    assert (status, err) == (2, 'posestill: --on ray needs Ray: pip install "posestill[cluster]"\n')
