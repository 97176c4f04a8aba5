import pytest

from common.errors import UserError
from common.models.build import build


def test_more_stages_than_an_image_can_be_halved_are_refused():
    for network, switches in (("resnet7", {}), ("residual", {"shortcuts": True})):
        with pytest.raises(UserError, match=r"cannot be built for images of 32×32×3 .*fewer --widths"):
            build(network, (32, 32, 3), 25, {"widths": (8,) * 7, **switches})


def test_a_switch_that_the_network_has_not_is_named():
    with pytest.raises(UserError, match="the network resnet7 has no switch dropout; it has widths"):
        build("resnet7", (32, 32, 3), 25, {"dropout": 0.5})
