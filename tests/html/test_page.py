import base64
import re

import cv2
import numpy as np
import pytest

from posestill.html.page import (
    Drawing,
    Strip,
    Tile,
    code,
    commands,
    details,
    figure,
    heading,
    labelled_pictures,
    notes,
    page,
    paragraph,
    percent,
    side_by_side,
    strips,
    table,
    tiles,
    verdict,
    warning,
)
from tests.html.parsed import cells, parsed

EVIL = "<script>alert('\"&')</script>"


def drawing(caption="a & b"):
    return Drawing(np.full((20, 10, 3), (200, 30, 30), dtype=np.uint8), caption)


def test_a_page_has_a_title_a_subtitle_and_its_parts_and_asks_nobody_else_for_anything():
    text = page("Run a", [heading("Losses"), paragraph("They fell.")], subtitle="by tcd")
    found = parsed(text)
    assert found.one("title").text == found.one("h1").text == "Run a"
    assert found.one("header").one("p").text == "by tcd"
    assert [each.tag for each in found.one("main").inside if not isinstance(each, str)] == ["h2", "p"]
    assert not re.search(r"https?:|src=\"(?!data:)|@import|url\(|<script|<link", text)


@pytest.mark.parametrize(
    "part",
    [
        heading(EVIL), paragraph(EVIL), verdict([EVIL, EVIL]), warning(EVIL), tiles([Tile(EVIL, EVIL, EVIL)]),
        table([EVIL, EVIL], [[EVIL, EVIL]], caption=EVIL), figure("<svg></svg>", EVIL), code(EVIL),
        strips([Strip(EVIL, [drawing(EVIL)])]), commands([(EVIL, EVIL)]), details(EVIL, [paragraph(EVIL)]),
        labelled_pictures(EVIL, {EVIL: (b"jpeg", EVIL)}, width=1, height=1), page(EVIL, [], subtitle=EVIL),
        notes([EVIL]),
    ],
    ids=range(14),
)  # fmt: skip
def test_whatever_is_handed_in_is_shown_as_text(part):
    assert "<script" not in part
    assert EVIL in parsed(part).text.replace("\u00a0", " ")


def test_the_verdict_comes_first_and_what_it_is_worth_below():
    found = parsed(verdict(["It keeps 93 %.", "One seed.", "Converged."]))
    assert found.one("p", "first").text == "It keeps 93 %."
    assert [each.text for each in found.all("p")[1:]] == ["One seed.", "Converged."]


def test_notes_are_a_list_and_none_are_nothing():
    assert [each.text for each in parsed(notes(["One.", "a < b"])).all("li")] == ["One.", "a < b"]
    assert notes([]) == ""


def test_tiles_show_a_figure_its_name_and_what_to_compare_it_with():
    found = parsed(tiles([Tile("93 %", "of its teacher", "on 5 people"), Tile("1 MB", "file")]))
    assert [each.text for each in found.all("dt")] == ["of its teacher", "file"]
    assert [each.text for each in found.all("dd")] == ["93 % on 5 people", "1 MB"]


def test_a_table_scrolls_in_itself_has_a_caption_and_names_its_rows():
    found = parsed(table(["arm", "OKS"], [["alone", "50.1"], ["tcd", "53.0"]], caption="All arms"))
    frame = found.one("div", "scroll")
    assert (frame.attributes["tabindex"], frame.attributes["aria-label"]) == ("0", "All arms")
    assert frame.one("caption").text == "All arms"
    assert cells(frame.one("table")) == [["arm", "OKS"], ["alone", "50.1"], ["tcd", "53.0"]]
    assert [each.attributes["scope"] for each in found.all("th")] == ["col", "col", "row", "row"]
    assert [each.text for each in [*found.all("th", "text"), *found.all("td", "text")]] == ["arm", "alone", "tcd"]
    wide = parsed(table(["arm", "where", "OKS"], [["alone", "few", "50.1"]], caption="All", words=2))
    assert [each.text for each in wide.all("td", "text")] == ["few"]


def test_every_picture_is_in_the_page_and_says_in_words_what_it_shows():
    found = parsed(strips([Strip("Person 7", [drawing("labels"), drawing("student, OKS 43.0")])]))
    assert [each.attributes["alt"] for each in found.all("img")] == [
        "Person 7: the pose of labels", "Person 7: the pose of student, OKS 43.0",
    ]  # fmt: skip
    assert [each.text for each in found.all("figcaption")] == ["labels", "student, OKS 43.0"]
    first = found.all("img")[0]
    assert (first.attributes["width"], first.attributes["height"]) == ("10", "20")
    content = base64.b64decode(first.attributes["src"].removeprefix("data:image/jpeg;base64,"))
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert abs(pixels.astype(int) - (200, 30, 30)).max() < 12


def test_rows_of_many_pictures_are_broken_on_a_phone():
    def kind(count):
        return parsed(strips([Strip("Person 7", [drawing()] * count)])).all("div")[0].attributes["class"]

    assert [kind(count) for count in (2, 3, 4)] == ["strips", "strips", "strips many"]


def test_charts_have_captions_and_none_leaves_nothing_behind():
    found = parsed(side_by_side([figure("<svg></svg>", "Losses"), figure("", "Nothing")]))
    assert [each.text for each in found.all("figcaption")] == ["Losses"]
    assert len(found.one("div", "pair").inside) == 1


def test_commands_stand_as_they_are_typed():
    found = parsed(commands([("Draw:", "posestill predict 'a b' --out o")]))
    assert (found.one("dt").text, found.one("code").text) == ("Draw:", "posestill predict 'a b' --out o")


def test_percent_shows_what_does_not_exist_as_such():
    assert [percent(value) for value in (0.1234, -1, float("nan"), None)] == ["12.3", "-1", "–", "–"]
