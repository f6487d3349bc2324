import pytest

from posestill.cluster.shards import Shard
from posestill.engine.log import RunLog
from posestill.schema import UserError
from posestill.study import division
from posestill.study.division import Division
from posestill.study.jobs import Resolver, confirming, screening, tuning
from posestill.study.pool import Workshop
from posestill.study.results import Results
from tests.study.plans import small_plan, small_row

PLAN = small_plan()
RATES = {(regime, arm): 4e-3 for regime in PLAN.regimes for arm in PLAN.arms_of(regime)}
STAGES = {
    "tune": Resolver(PLAN).jobs(tuning(PLAN)),
    "screen": Resolver(PLAN).jobs(screening(PLAN, RATES)),
    "confirm": Resolver(PLAN).jobs(confirming(PLAN, RATES)),
}


class Heard(RunLog):
    def __init__(self):
        super().__init__(None, quiet=True)
        self.said = []

    def say(self, text):
        self.said.append(text)


def divided(folder, shard=Shard(1, 1), **how):
    shop = Workshop(results=folder / "results", work=folder / "work", shard=shard, **how)
    return Division(PLAN, shop, Results.read(shop.results), Heard())


def owners(folder, count):
    """Run -> the shard that has it, as each of the shards says."""
    found = {}
    for shard in Shard(1, count).all:
        each = divided(folder, shard)
        for jobs in STAGES.values():
            for job in each.own(jobs):
                assert found.setdefault(job.name, shard.number) == shard.number
        found_by_it = each.owners
    assert found_by_it == found
    return found


def test_every_run_is_one_shards_and_all_agree_whose(tmp_path):
    names = {job.name for jobs in STAGES.values() for job in jobs}
    assert set(owners(tmp_path, 3)) == names
    counts = [list(owners(tmp_path, 3).values()).count(number) for number in (1, 2, 3)]
    assert max(counts) - min(counts) <= 3  # each of three stages is dealt out by turns


def test_what_one_shard_has_does_not_depend_on_what_is_finished(tmp_path):
    before = owners(tmp_path, 2)
    results = Results.read(tmp_path / "results")
    for job in STAGES["tune"][:3]:
        results.add_run(small_row(job))
    assert owners(tmp_path, 2) == before


def test_screening_leaves_runs_of_tuning_with_who_had_them(tmp_path):
    each = divided(tmp_path, Shard(1, 2))
    each.own(STAGES["tune"])
    tuned = dict(each.owners)
    each.own(STAGES["screen"])
    assert {name: each.owners[name] for name in tuned} == tuned
    assert set(tuned) & {job.name for job in STAGES["screen"]}


def test_without_shards_everything_is_ones_own_and_nothing_is_waited_for(tmp_path):
    alone = divided(tmp_path)
    assert alone.own(STAGES["tune"]) == STAGES["tune"]
    alone.await_choices()
    assert alone.left() == ""


def test_a_shard_that_needs_others_choices_names_them_in_one_line(tmp_path):
    each = divided(tmp_path, Shard(1, 2))
    for job in each.own(STAGES["tune"]):
        each.results.add_run(small_row(job))
    missing = [job.name for job in STAGES["tune"] if each.owners[job.name] == 2]
    with pytest.raises(UserError) as told:
        each.await_choices()
    assert str(told.value) == (
        f"shard 1/2 cannot go on without the tuning run {missing[0]} and {len(missing) - 1} more of shard 2/2: run "
        "that first and then the same command again, or let this one wait by --wait"
    )


def test_a_waiting_shard_says_once_for_whom_and_goes_on_when_they_have_finished(tmp_path, monkeypatch):
    each = divided(tmp_path, Shard(1, 3), waits=True)
    other = Results.read(tmp_path / "results")
    for job in each.own(STAGES["tune"]):
        other.add_run(small_row(job))
    jobs = sorted([job for job in STAGES["tune"] if each.owners[job.name] > 1], key=lambda job: each.owners[job.name])

    def a_run_ends(seconds):
        assert seconds == division.PAUSE
        other.add_run(small_row(jobs.pop(0)))

    monkeypatch.setattr(division.time, "sleep", a_run_ends)
    each.await_choices()
    assert not jobs
    assert [said.partition(" of ")[2] for said in each.log.said] == [
        "shards 2/3 and 3/3: waiting for it", "shard 3/3: waiting for it",
    ]  # fmt: skip


def test_a_shard_does_not_wait_for_itself(tmp_path):
    with pytest.raises(UserError, match=r"of shards 1/2 and 2/2: run that first"):
        divided(tmp_path, Shard(1, 2), waits=True).await_choices()


def test_what_is_left_is_told_until_all_is_there(tmp_path):
    each = divided(tmp_path, Shard(2, 2))
    each.own(STAGES["tune"])
    last = [job for job in STAGES["tune"] if each.owners[job.name] == 1][-1]
    other = Results.read(tmp_path / "results")
    for job in STAGES["tune"]:
        if job != last:
            other.add_run(small_row(job))
    assert each.left() == (
        f"shard 2/2 has done its share; 1 of {len(STAGES['tune'])} runs are still those of shard 1/2. Who ends last "
        "writes the table; `posestill compare` without --shard does, too"
    )
    other.add_run(small_row(last))
    assert each.left() == ""
