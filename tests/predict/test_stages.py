import time

import pytest

from posestill.predict.stages import STAGES, Stages


def test_seconds_are_added_up_by_stage_and_told_as_shares():
    stages = Stages()
    assert list(stages.seconds) == list(STAGES)
    for _ in range(2):
        with stages("draw"):
            time.sleep(0.01)
    with pytest.raises(ValueError, match="inside"), stages("crop"):
        raise ValueError("inside")
    assert stages.seconds["draw"] >= 0.02
    assert stages.seconds["network"] == 0 < stages.seconds["crop"]
    stages.seconds = dict.fromkeys(STAGES, 0.0) | {"network": 3.0, "encode": 1.0}
    assert str(stages) == (
        "4.0 s: decode 0 %, find 0 %, crop 0 %, network 75 %, decode keypoints 0 %, draw 0 %, encode 25 %"
    )
    assert str(Stages()).startswith("0.0 s: decode 0 %")
