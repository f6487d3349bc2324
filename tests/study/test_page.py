import json

import pytest

from posestill.study.jobs import Asked, chosen_rates, confirming, screening, tuning
from posestill.study.page import write_comparison
from posestill.study.results import Results
from tests.html.parsed import below, cells, parsed, within
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
    page = parsed(report.read_text())
    assert len(page.all("svg")) == len(doses) + 4  # and two of gains, keypoints, cost
    assert all(chart.attributes["aria-label"] for chart in page.all("svg"))
    assert {path.name for path in report.parent.iterdir()} == {"report.html"}


def test_a_picture_s_file_name_is_plain_whatever_its_arms_are_called(tmp_path):
    titles = {"title": "longer, for TCD's time (again)", "control": "alone", "length": 2, "tuned_as": "alone"}
    plan = small_plan(arms={"tcd": {"title": "TCD"}, "longer": titles}, controls=["longer"], learning_rates=[1e-3],
                      confirm={"few": ["alone", "longer", "tcd"]})  # fmt: skip
    results, rates = Results.read(tmp_path), chosen_rates(plan, [])
    for asked in confirming(plan, rates):
        results.add_run(small_row(asked, plan, similarity="5000 6000"))
    write_comparison(plan, results, rates, name="mine.yaml", command="x", report=tmp_path / "report.html")
    assert (tmp_path / "gain-over-longer-for-tcd-s-time-again.svg").is_file()


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


def page_of(plan, folder, *, oks=None):
    """The page of a plan whose runs were never trained; `oks` gives the OKS of three persons by arm."""
    results, rates = Results.read(folder / "results"), chosen_rates(plan, [])
    for asked in [*screening(plan, rates), *confirming(plan, rates)]:
        similarity = (oks or {}).get(asked.arm, "5000 5100 5200")
        mean = sum(map(int, similarity.split())) / 30000
        results.add_run(small_row(asked, plan, similarity=similarity, metrics={"mean_oks": mean, "AP": 0.1}))
    report = write_comparison(plan, results, rates, name="mine.yaml", command="posestill compare mine.yaml",
                              report=folder / "work" / "report.html")  # fmt: skip
    return parsed(report.read_text(encoding="utf-8"))


def test_the_page_opens_with_a_title_and_a_verdict_in_words(tmp_path):
    plan = small_plan(learning_rates=[1e-3])
    page = page_of(plan, tmp_path, oks={"tcd": "6000 6100 6200"})
    assert page.one("h1").text == "Comparison mine"
    first = page.one("section", "verdict").one("p", "first").text
    assert first.startswith("In few, TCD comes first with mean OKS 61.0: a gain of +10.0 [")
    assert page.one("main").inside[1].attributes["class"] == "verdict"
    assert "posestill compare mine.yaml" in page.text


def test_names_of_arms_and_regimes_come_from_users_and_are_shown_as_text(tmp_path):
    evil = "<i>&'\""
    regimes = {evil: {"recipe": "protocol/synthetic", "test": ["data.val.seed=9"]}}
    plan = small_plan(regimes=regimes, arms={"tcd": {"title": evil}}, learning_rates=[1e-3], confirm={})
    page = page_of(plan, tmp_path)
    assert not page.all("i")
    assert cells(page.all("table")[0])[3][:2] == [evil, evil]


def test_twenty_arms_have_twenty_colours_which_they_keep_in_every_chart(tmp_path):
    arms = {f"arm{number}": {"title": f"arm {number}"} for number in range(18)}
    regimes = {name: {"recipe": "protocol/synthetic", "dose": {"labels": at}} for name, at in (("few", 1), ("many", 2))}
    page = page_of(small_plan(regimes=regimes, arms=arms, learning_rates=[1e-3], confirm={}), tmp_path)
    lines = within(below(page, "Gains"), "polyline")
    assert len({each.attributes["stroke"] for each in lines}) == 20
    charts = within(below(page, "Keypoints and cost"), "svg")
    cost = next(each for each in charts if "seconds of training" in each.attributes["aria-label"])
    marks = [each.attributes["stroke"] for each in [*cost.all("circle"), *cost.all("path")]
             if each.attributes.get("stroke-width") == "1.5"]  # fmt: skip
    assert sorted(marks) == sorted(each.attributes["stroke"] for each in lines)


def test_wide_tables_scroll_in_themselves(tmp_path):
    page = page_of(small_plan(learning_rates=[1e-3]), tmp_path)
    assert len(page.all("table")) == len(page.all("div", "scroll")) == 2  # test and tune
    assert all(each.one("caption").text for each in page.all("table"))


def test_people_stand_below_the_names_of_the_arms_whose_poses_they_have(tmp_path):
    plan = small_plan(learning_rates=[1e-3])
    strips = {"labels": b"l", "alone-lr0.001-seed1": b"a", "tcd-lr0.001-seed1": b"t"}
    for name, content in strips.items():
        path = tmp_path / "work" / "people" / "test" / "few" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    parts = below(page_of(plan, tmp_path), "The same people, by arm")
    assert [each.text for each in within(parts, "figcaption")] == ["labels", "student alone", "TCD"]
    images = within(parts, "img")
    assert images[2].attributes["alt"] == "4 people in few with the poses of TCD"
    assert images[2].attributes["src"].endswith("base64,dA==")
    assert not any("No pictures were kept" in each.text for each in parts)


def test_where_no_pictures_of_people_were_kept_the_page_says_so(tmp_path):
    parts = below(page_of(small_plan(learning_rates=[1e-3]), tmp_path), "The same people, by arm")
    assert not within(parts, "img")
    assert "nobody can be shown here" in parts[0].text


@pytest.mark.parametrize(
    ("flips", "told"),
    [
        ([None, None], "ground-truth boxes, flip test."),
        ([False, False], "ground-truth boxes, no flip test."),
        ([False, True], "ground-truth boxes, flip test in some runs."),
    ],
)
def test_the_table_says_whether_runs_were_judged_with_a_flip_test(flips, told, tmp_path):
    results, plan = Results.read(tmp_path), small_plan(learning_rates=[1e-3])
    for arm, flip in zip(("alone", "tcd"), flips, strict=True):
        more = {} if flip is None else {"conditions": {"flip_test": flip}}
        results.add_run(small_row(Asked("tune", "few", arm, 1e-3, 7), plan, similarity="5000 6000", **more))
    write_comparison(plan, results, chosen_rates(plan, []), name="mine.yaml", command="c", report=tmp_path / "r.html")
    assert told in (tmp_path / "table.md").read_text()


def test_a_gain_over_the_one_seed_that_both_have_bears_no_star(tmp_path):
    results, plan = Results.read(tmp_path), small_plan(learning_rates=[1e-3])
    for seed, arm in ((1, "alone"), (1, "tcd"), (2, "tcd")):
        oks = "5000 5000 5200 5100" if arm == "alone" else "6000 6000 6200 6050"
        results.add_run(small_row(Asked("test", "few", arm, 1e-3, seed), plan, similarity=oks))
    write_comparison(plan, results, chosen_rates(plan, []), name="mine.yaml", command="c", report=tmp_path / "r.html")
    (line,) = (line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| few | TCD"))
    assert " | 2 | " in line
    assert "*" not in line
