import json

import pytest

from posestill.study.jobs import Asked, chosen_rates, confirming, screening, tuning
from posestill.study.page import write_comparison
from posestill.study.results import Results
from tests.study.plans import small_plan, small_row


@pytest.mark.parametrize(
    ("doses", "kept"),
    [
        ({}, ["gain-over-pseudo-labels", "gain-over-student-alone"]),
        ({"labels": (1, 2)}, ["gain-by-labels", "gain-over-pseudo-labels", "gain-over-student-alone"]),
        (
            {"labels": (1, 2), "label noise": (0, 4)},
            ["gain-by-label-noise", "gain-by-labels", "gain-over-student-alone"],
        ),
    ],
)
def test_three_pictures_are_kept_curves_first_and_the_report_has_them_all(doses, kept, tmp_path):
    regimes = {
        name: {"recipe": "protocol/synthetic", "dose": {factor: at[place] for factor, at in doses.items()}}
        for place, name in enumerate(("few", "many"))
    }
    plan = small_plan(regimes=regimes, confirm={"few": ["alone", "pseudo_label", "tcd"]}, learning_rates=[1e-3])
    results = Results.read(tmp_path / "results")
    rates = chosen_rates(plan, [])
    for number, asked in enumerate([*tuning(plan), *screening(plan, rates), *confirming(plan, rates)]):
        oks = " ".join(str(5000 + (number * person) % 700) for person in range(40))
        results.add_run(small_row(asked, plan, similarity=oks))
    for stale in ("gain-over-pseudo-labels", "pck-by-keypoint-in-few", "a-picture-of-mine"):
        (tmp_path / "results" / f"{stale}.svg").write_text("before")
    report = write_comparison(plan, results, rates, name="mine.yaml", command="posestill compare mine.yaml",
                              report=tmp_path / "work" / "report.html")  # fmt: skip
    pictures = {path.stem: path.read_text() for path in (tmp_path / "results").glob("*.svg")}
    assert sorted(pictures) == sorted([*kept, "a-picture-of-mine"])
    assert pictures.pop("a-picture-of-mine") == "before"
    assert all(picture.startswith("<svg ") for picture in pictures.values())
    assert report.read_text().count("<svg") == len(doses) + 4  # and two of gains, keypoints, cost
    assert {path.name for path in report.parent.iterdir()} == {"report.html"}


def test_arms_stand_in_the_tables_by_their_titles_with_the_gains_over_baseline_and_controls(tmp_path):
    results, plan = Results.read(tmp_path), small_plan(learning_rates=[1e-3])
    for arm, oks in (("alone", "5000 5000 5200"), ("tcd", "6000 6000 6200")):
        results.add_run(small_row(Asked("tune", "few", arm, 1e-3, 7), plan, similarity=oks, metrics={
            "mean_oks": 0.5067 if arm == "alone" else 0.6067, "AP": 0.1}))  # fmt: skip
    write_comparison(plan, results, chosen_rates(plan, []), name="mine.yaml", command="c", report=tmp_path / "r.html")
    lines = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| few")]
    assert lines == [
        "| few | student alone | 0.001 | 1 | 50.7 | – | – | 10.0 | 10 |",
        "| few | TCD | 0.001 | 1 | 60.7 | +10.0 [+10.0, +10.0] | – | 10.0 | 10 |",
    ]


@pytest.mark.parametrize("is_apart", [True, False])
def test_runs_on_test_are_confirmed_only_where_the_regime_names_other_persons_for_them(is_apart, tmp_path):
    plan = small_plan(learning_rates=[1e-3], confirm={("few" if is_apart else "many"): ["alone", "tcd"]})
    results = Results.read(tmp_path)
    for asked in confirming(plan, chosen_rates(plan, [])):
        results.add_run(small_row(asked, plan))
    write_comparison(plan, results, chosen_rates(plan, []), name="p", command="c", report=tmp_path / "r.html")
    notes = json.loads((tmp_path / "summary.json").read_text())["notes"]
    said = "Not confirmed on test: many names no `test:` persons"
    for text in ((tmp_path / "table.md").read_text(), (tmp_path / "r.html").read_text()):
        assert ("Confirmed on test" in text) == is_apart
        assert (said in text) != is_apart
    assert len(notes) == (0 if is_apart else 1)
