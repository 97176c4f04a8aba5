"""The networks, by the name an experiment gives. A new network is a file and its name here."""

from common.models.basenet import basenet
from common.models.heads import convolutional, fully_connected, linear, resnet50_classifier, resnet50_second_order
from common.models.residual import residual
from common.models.resnet7 import resnet7
from common.models.resnet9 import resnet9

NETWORKS = {
    "basenet": basenet,
    "residual": residual,
    "resnet7": resnet7,
    "resnet9": resnet9,
    "linear": linear,
    "fully-connected": fully_connected,
    "convolutional": convolutional,
    "resnet50": resnet50_classifier,
    "resnet50-second-order": resnet50_second_order,
}
