"""A run's report, part by part, as it stands in its HTML."""

import json
import re
import shlex

import numpy as np
import pytest

from posestill.engine.beside import put_beside
from posestill.engine.fit import fit
from posestill.engine.setup import Sources, open_sources
from posestill.html.report import Gained, write_run_report
from tests.conftest import DotSource, small_model, small_run
from tests.engine.test_pictures import labels, run
from tests.html.parsed import below, cells, parsed, within
from tests.networks import write_photos, write_teacher

MOST_BYTES = 3_000_000


def reported(config, folder, sources, **more):
    """The text of a run's report and what stands in it."""
    result = fit(config, folder, sources=sources, quiet=True)
    path = write_run_report(result, config, put_beside(config, folder, result.sources), **more)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A supervised run with two evaluations, whose folder has a name that HTML must not take for its own."""
    folder = tmp_path_factory.mktemp("alone") / "a <b> & 'c'"
    text = reported(small_run(evaluate={"every": 3}), folder, Sources(DotSource(16), DotSource(9)))
    return folder, text, parsed(text)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A run with a model as its teacher, and labels."""
    folder = tmp_path_factory.mktemp("distilled")
    small_model(seed=3).save(folder / "teacher")
    config = small_run(teacher=str(folder / "teacher"), method="pseudo_label")
    return parsed(reported(config, folder / "run", Sources(DotSource(16), DotSource(9))))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run on pictures without labels with a file as its teacher."""
    folder = tmp_path_factory.mktemp("taught")
    config = run(write_teacher(folder / "t.onnx"), write_photos(folder / "p", 20))
    return parsed(reported(config, folder / "run", open_sources(config)))


def test_a_report_is_one_small_file_that_asks_nobody_for_anything(alone):
    folder, text, page = alone
    assert len(text.encode()) < MOST_BYTES
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?:|@import|url\(|<script|<link|<b>", text)
    assert page.one("h1").text == f"Run {folder.name}"


def test_the_verdict_is_the_first_thing_and_stands_in_words(alone, distilled, taught):
    for page in (alone[2], distilled, taught):
        assert page.one("main").all("section")[0].attributes["class"] == "verdict"
    verdict = alone[2].one("section", "verdict")
    assert re.search(r"The model, small_resnet with a deconv head, .* reaches a mean OKS of \d", verdict.text)
    assert "Too little was logged to tell whether training had converged." in verdict.text
    assert re.search(r"The student, .*(keeps \d+ % of|does better than) its teacher", distilled.text)
    assert re.search(r"(times as (fast|long) as|about as fast as) the teacher", distilled.text)
    assert re.search(r"agrees with its teacher to a mean OKS of [\d.]+ on 2 people held out", taught.text)


def test_its_figures_are_those_of_the_model_in_best(alone):
    folder, _, page = alone
    figures = json.loads((folder / "eval.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = next(row["evaluation"] for row in rows if row.get("evaluation") and row["step"] == figures["best_step"])
    assert page.one("dl", "tiles").all("dd")[0].text == f"{100 * best['mean_oks']:.1f} 9 people"
    told = dict(cells(within(below(page, "All figures and settings"), "table")[0])[1:])
    assert told["mean oks"] == f"{100 * best['mean_oks']:.1f}"


def test_losses_and_accuracy_are_drawn_over_the_steps(alone):
    losses, accuracy = within(below(alone[2], "Training"), "svg")
    assert len(losses.one("polyline").attributes["points"].split()) == 3  # every second of six steps
    assert [len(each.attributes["points"].split()) for each in accuracy.all("polyline")] == [2, 2, 2]
    assert all("steps" in {each.text for each in chart.all("text")} for chart in (losses, accuracy))


def test_keypoints_have_a_bar_each_and_the_teacher_one_beside_it(alone, distilled):
    for page, bars in ((alone[2], 4), (distilled, 8)):
        (chart,) = within(below(page, "Accuracy by keypoint"), "svg")
        assert len(chart.all("rect")) == bars
        assert {"top", "left side", "right side", "bottom"} <= {each.text for each in chart.all("text")}


def test_teacher_and_student_are_drawn_on_the_same_people_beside_the_labels(distilled, taught, alone):
    seen = {
        page: [
            [each.text.split(",")[0] for each in person.all("figcaption")]
            for person in within(below(parsed_page, "The same people, side by side"), "section")
        ]
        for page, parsed_page in (("alone", alone[2]), ("distilled", distilled), ("taught", taught))
    }
    assert seen["alone"] == [["labels", "student"]] * 6
    assert seen["distilled"] == [["labels", "teacher", "student"]] * 6
    assert seen["taught"] == [["teacher", "student"]] * 2
    assert all(each.attributes["alt"] for each in distilled.all("img"))


def test_worst_cases_come_with_the_lowest_first(distilled):
    oks = [
        float(each.all("figcaption")[-1].text.split("OKS ")[1])
        for each in within(below(distilled, "Worst cases"), "section")
    ]
    assert len(oks) == 4
    assert oks == sorted(oks)


def test_where_teacher_and_student_agree_least_is_shown_where_there_is_a_teacher(alone, distilled, taught):
    title = "Where teacher and student agree least"
    alike = [float(each.one("h3").text.split("alike: ")[1]) for each in within(below(distilled, title), "section")]
    assert len(alike) == 4
    assert alike == sorted(alike)
    assert len(within(below(taught, title), "section")) == 2
    assert title not in alone[2].text


def test_speed_is_measured_and_stands_with_its_hardware(alone, distilled):
    (table,) = within(below(distilled, "Size and time"), "table")
    assert [row[0] for row in cells(table)[1:]] == ["student", "teacher"]
    assert all(float(row[2]) <= float(row[1]) <= float(row[3]) for row in cells(table)[1:])
    assert "the median of 30" in alone[2].text
    assert re.search(r"\(cpu, 1 thread, torch \d", alone[2].text)


def test_only_a_student_of_a_teachers_answers_alone_is_told_what_more_it_could_gain(alone, distilled, taught):
    asks = ["How much more is there to gain?" in page.text for page in (alone[2], distilled, taught)]
    assert asks == [False, False, True]


def test_the_next_commands_have_the_real_paths(alone):
    folder, _, page = alone
    typed = [shlex.split(each.text) for each in within(below(page, "What to do next"), "code")]
    assert {words[1] for words in typed} == {"predict", "export", "page", "train"}
    for words in typed:
        assert words[0] == "posestill"
        assert words[2] in (str(folder), str(folder / "best"))


def test_without_labels_everything_is_called_agreement(taught):
    assert "Truth: the teacher's answers. There are no labels here" in taught.text
    assert "ccuracy" not in taught.text
    assert below(taught, "Agreement with the teacher by keypoint")
    assert below(taught, "Agreement with the teacher by its confidence")


def test_labels_of_some_pictures_are_drawn_and_judged_by(tmp_path):
    config = run(write_teacher(tmp_path / "t.onnx"), write_photos(tmp_path / "p", 12), val=labels(tmp_path, [2, 5, 9]))
    page = parsed(reported(config, tmp_path / "run", open_sources(config)))
    people = within(below(page, "The same people, side by side"), "section")
    assert [each.text.split(",")[0] for each in people[0].all("figcaption")] == ["labels", "teacher", "student"]
    assert below(page, "Accuracy by keypoint")
    assert "by labels it" in page.one("section", "verdict").text


def test_what_distillation_gave_over_its_controls_is_in_the_verdict_and_in_a_part_of_its_own(tmp_path):
    gained = Gained("Distillation gave +1.0 [+0.5, +1.5].", ["<p>All the gains.</p>"])
    page = parsed(reported(small_run(), tmp_path / "run", Sources(DotSource(8), DotSource(4)), gained=gained))
    assert "Distillation gave +1.0 [+0.5, +1.5]." in page.one("section", "verdict").text
    assert [each.text for each in below(page, "What distillation gave")] == ["All the gains."]


def test_a_student_that_finds_nobody_still_gets_its_report(tmp_path):
    """Such as one whose answers are not finite: it counts as missing everybody."""
    config = small_run()
    result = fit(config, tmp_path / "run", sources=Sources(DotSource(8), DotSource(4)), quiet=True)
    beside = put_beside(config, tmp_path / "run", result.sources)
    beside.on_labels.poses.student[:] = np.nan
    page = parsed(write_run_report(result, config, beside).read_text())
    assert "student, OKS 0.0" in page.text


def test_a_run_whose_validation_people_have_no_labels_gets_a_report_without_people(tmp_path):
    sources = Sources(DotSource(8), DotSource(3, unlabelled=3))
    page = parsed(reported(small_run(), tmp_path / "run", sources))
    assert "was not judged: nobody in the validation data has labels" in page.one("section", "verdict").text
    assert not page.all("img")
