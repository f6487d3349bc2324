import pytest

from posestill.cluster.attempts import Failure, InUse, failure_of
from posestill.schema import UserError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("data: none"), Failure("data: none", may_pass=False)),
        (InUse("run is being trained into"), Failure("run is being trained into", may_pass=True)),
        (KeyboardInterrupt("after step 3"), Failure("after step 3", may_pass=True)),
        (KeyboardInterrupt(), Failure("its process was interrupted", may_pass=True)),
        (ValueError("a\nb"), Failure("ValueError: a b", may_pass=True, trace="where")),
    ],
)
def test_only_an_error_that_is_not_the_users_has_a_trace_and_only_his_own_mistake_does_not_pass(error, expected):
    assert failure_of(error, "where") == expected
