"""The encoders, by the name that presets use for them."""

from keras_dpt.encoders.beit import BEiTEncoder
from keras_dpt.encoders.dinov2 import DINOv2Encoder
from keras_dpt.encoders.efficientnet_hybrid import EfficientNetHybridEncoder
from keras_dpt.encoders.efficientnet_lite import EfficientNetLiteEncoder
from keras_dpt.encoders.resnet import ResNetEncoder
from keras_dpt.encoders.swin import Swin2Encoder, SwinEncoder
from keras_dpt.encoders.vit import ViTEncoder
from keras_dpt.encoders.vit_hybrid import ViTHybridEncoder

ENCODERS = {
    "ViTEncoder": ViTEncoder,
    "ViTHybridEncoder": ViTHybridEncoder,
    "EfficientNetHybridEncoder": EfficientNetHybridEncoder,
    "DINOv2Encoder": DINOv2Encoder,
    "BEiTEncoder": BEiTEncoder,
    "ResNetEncoder": ResNetEncoder,
    "EfficientNetLiteEncoder": EfficientNetLiteEncoder,
    "SwinEncoder": SwinEncoder,
    "Swin2Encoder": Swin2Encoder,
}
