"""The table of contents: every part that a recipe can name. Adding one is its file and one line here."""

from __future__ import annotations

from posestill import schema
from posestill.codecs.base import CodecConfig
from posestill.codecs.coords import CoordsConfig
from posestill.codecs.heatmap import HeatmapConfig
from posestill.codecs.rle import RleConfig
from posestill.codecs.simcc import SimccConfig
from posestill.data.coco import CocoConfig
from posestill.data.images import HeldOutConfig, ImagesConfig
from posestill.data.packed import PackedConfig
from posestill.data.source import SourceConfig
from posestill.data.synthetic.people import SyntheticConfig
from posestill.data.yolo import YoloConfig
from posestill.methods.agentpose import AgentPoseConfig, AgentPosePaperConfig, DiffKDConfig
from posestill.methods.base import MethodConfig
from posestill.methods.distilpose import DistilPoseConfig, SimulatedHeatmapConfig
from posestill.methods.feature import ChannelWiseConfig, FitNetConfig, MaskedGenerationConfig, PearsonConfig
from posestill.methods.head_slimming import HeadSlimmingConfig
from posestill.methods.logit import HeatmapLogitConfig, SimccLogitConfig
from posestill.methods.ocd import OcdConfig
from posestill.methods.pseudo_label import PseudoLabelConfig
from posestill.methods.several import SeveralConfig
from posestill.methods.supervised import SupervisedConfig
from posestill.methods.tcd import TcdConfig
from posestill.models.agent import AgentNeckConfig, PaperAgentNeckConfig
from posestill.models.backbone import BackboneConfig, SmallResNetConfig, TimmConfig
from posestill.models.cspnext import CspNextConfig
from posestill.models.gau_head import GauConfig
from posestill.models.heads import ConvMapsConfig, DeconvConfig, FlatFcConfig, GapFcConfig, HeadConfig, SimccHeadConfig
from posestill.models.hrnet import HRNetConfig
from posestill.models.pose_model import NeckConfig
from posestill.models.stemnet import StemNetConfig
from posestill.models.token_head import TokenConfig
from posestill.models.vitpose import VitPoseConfig, VitPoseHeadConfig
from posestill.teachers.base import TeacherConfig
from posestill.teachers.checkpoint import BundledConfig, BundledTokensConfig, CheckpointConfig
from posestill.teachers.file import FileConfig
from posestill.teachers.transformers import TransformersConfig

CODECS: dict[str, type[CodecConfig]] = {
    "heatmap": HeatmapConfig,
    "coords": CoordsConfig,
    "rle": RleConfig,
    "simcc": SimccConfig,
}
SOURCES: dict[str, type[SourceConfig]] = {
    "coco": CocoConfig,
    "synthetic": SyntheticConfig,
    "yolo": YoloConfig,
    "packed": PackedConfig,
    "images": ImagesConfig,
    "held_out": HeldOutConfig,
}
BACKBONES: dict[str, type[BackboneConfig]] = {
    "timm": TimmConfig,
    "small_resnet": SmallResNetConfig,
    "stemnet": StemNetConfig,
    "hrnet": HRNetConfig,
    "vitpose": VitPoseConfig,
    "cspnext": CspNextConfig,
}
NECKS: dict[str, type[NeckConfig]] = {
    "agent": AgentNeckConfig,
    "agent_paper": PaperAgentNeckConfig,
}
HEADS: dict[str, type[HeadConfig]] = {
    "deconv": DeconvConfig,
    "conv_maps": ConvMapsConfig,
    "gap_fc": GapFcConfig,
    "flat_fc": FlatFcConfig,
    "simcc": SimccHeadConfig,
    "gau": GauConfig,
    "token": TokenConfig,
    "vitpose": VitPoseHeadConfig,
}
TEACHERS: dict[str, type[TeacherConfig]] = {
    "checkpoint": CheckpointConfig,
    "bundled": BundledConfig,
    "bundled-tokens": BundledTokensConfig,
    "file": FileConfig,
    "transformers": TransformersConfig,
}
METHODS: dict[str, type[MethodConfig]] = {
    "supervised": SupervisedConfig,
    "pseudo_label": PseudoLabelConfig,
    "ocd": OcdConfig,
    "tcd": TcdConfig,
    "head_slimming": HeadSlimmingConfig,
    "distilpose": DistilPoseConfig,
    "simulated_heatmap": SimulatedHeatmapConfig,
    "agentpose": AgentPoseConfig,
    "agentpose_paper": AgentPosePaperConfig,
    "diffkd": DiffKDConfig,
    "fitnet": FitNetConfig,
    "pkd": PearsonConfig,
    "mgd": MaskedGenerationConfig,
    "cwd": ChannelWiseConfig,
    "fpd": HeatmapLogitConfig,
    "simcc_logits": SimccLogitConfig,
    "several": SeveralConfig,
}

schema.set_tables(
    codecs=CODECS,
    sources=SOURCES,
    backbones=BACKBONES,
    necks=NECKS,
    heads=HEADS,
    teachers=TEACHERS,
    methods=METHODS,
)
