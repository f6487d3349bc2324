import numpy as np
import pytest

from posestill.documents.fields import are_shares, box_of, numbers, shown, sound_box, whole_number
from posestill.schema import UserError


@pytest.mark.parametrize(
    ("given", "found"),
    [(3, 3), ("007", 7), ("-4", -4), (3.0, 3), (True, None), (3.5, None), (float("nan"), None), (float("inf"), None),
     ("3.0", None), ("x", None), (None, None), ([1], None), (2**63, None), (10**4000, None)],
)  # fmt: skip
def test_an_id_is_a_whole_number_in_whatever_form(given, found):
    assert whole_number(given) == found


def test_lists_of_numbers_are_flat_and_null_is_nan():
    assert numbers([1, 2.5]).tolist() == [1, 2.5]
    assert np.isnan(numbers([1, None])[1])
    assert numbers([10**400, 1])[0] == float("inf")
    assert len(numbers([])) == 0
    for wrong in ([1, "2"], [1, [2]], [[1, 2], [3, 4]], "12", 3, None, [True, False], [{}]):
        assert numbers(wrong) is None


def test_a_box_has_four_places_in_a_picture_and_no_negative_size():
    assert box_of([1, 2, None, 4], where="a")[3] == 4
    assert sound_box([1, 2, 0, 4], where="a").tolist() == [1, 2, 0, 4]
    with pytest.raises(UserError, match=r"a: bbox is \[1, 2, -3, 4\], of negative size"):
        sound_box([1, 2, -3, 4], where="a")


def test_a_value_is_shown_in_one_short_line():
    assert shown(10**5000) == "a number of very many digits"
    assert shown(None) == "null"
    assert len(shown("x" * 10**6)) < 60
    assert len(shown([[1] * 1000] * 1000)) < 60
    assert "\n" not in shown("a\nb")


def test_shares_are_fractions_within_0_and_1():
    assert are_shares(np.array([[0.2, 0.3], [0.5, 1.0]]))
    assert not are_shares(np.array([[0.0, 1.0], [1.0, 1.0]]))  # a picture of four px
    assert not are_shares(np.array([[0.2, 0.3], [5.0, 1.0]]))
