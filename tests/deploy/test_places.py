"""Absolute paths in what is published."""

import pytest

from posestill.deploy.places import without_places


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/jane/photos", "photos"),
        ("~/photos/a.json", "a.json"),
        (r"C:\Users\jane\photos", "photos"),
        ("C:/Users/jane/best", "best"),
        (r"\\server\jane\photos", "photos"),
        ("../shared/photos", "../shared/photos"),
        ("no path", "no path"),
        (["/a/b", {"c": "/d/e"}, 3, None], ["b", {"c": "e"}, 3, None]),
    ],
)
def test_of_an_absolute_path_the_last_name_alone_is_told(text, told):
    assert without_places(text) == told
