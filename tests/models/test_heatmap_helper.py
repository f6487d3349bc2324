import torch

from posestill.models.heatmap_helper import HeatmapHelper
from posestill.types import Heatmaps
from tests.conftest import small_model


def test_its_places_are_where_unbiased_maps_were_drawn_within_a_twentieth_of_a_cell():
    helper = HeatmapHelper(small_model("coords", size=[128, 96]), stride=4, width=8, sigma=2.0)
    xy = torch.tensor([[[40.3, 50.9], [48.0, 64.0], [37.7, 81.2], [58.5, 73.3]]])
    maps, _ = helper.codec.encode(xy, torch.ones(1, 4))
    assert (helper.places(Heatmaps(maps)).xy - xy).abs().max() / 4 < 0.05
