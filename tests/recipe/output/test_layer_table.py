"""The layer table against torchsummary's."""

from __future__ import annotations

from recipe.output.layer_table import LayerRow, render, totals

# What torchsummary 1.5.1 prints for a convolution, batch norm, ReLU, mean, flattening and a linear layer.
TORCHSUMMARY = """\
----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
            Conv2d-1           [-1, 40, 32, 32]           1,080
       BatchNorm2d-2           [-1, 40, 32, 32]              80
              ReLU-3           [-1, 40, 32, 32]               0
 AdaptiveAvgPool2d-4             [-1, 40, 1, 1]               0
           Flatten-5                   [-1, 40]               0
            Linear-6                   [-1, 10]             410
================================================================
Total params: 1,570
Trainable params: 1,570
Non-trainable params: 0
----------------------------------------------------------------
Input size (MB): 0.01
Forward/backward pass size (MB): 0.94
Params size (MB): 0.01
Estimated Total Size (MB): 0.96
----------------------------------------------------------------
"""


def resnet18_rows() -> list[LayerRow]:
    """ResNet18 for 32 × 32 pixels and ten classes, written down as a loop."""

    def conv(inputs: int, channels: int, kernel: int, size: int) -> list[LayerRow]:
        shape = (channels, size, size)
        weights = inputs * channels * kernel**2
        return [LayerRow("Conv2d", shape, weights), LayerRow("BatchNorm2d", shape, 2 * channels)]

    rows = [*conv(3, 64, 3, 32), LayerRow("ReLU", (64, 32, 32), 0)]
    inputs = 64
    for channels, size in ((64, 32), (128, 16), (256, 8), (512, 4)):
        for _ in range(2):
            rows += [*conv(inputs, channels, 3, size), LayerRow("ReLU", (channels, size, size), 0)]
            rows += conv(channels, channels, 3, size)
            if inputs != channels:
                rows += conv(inputs, channels, 1, size)
            rows.append(LayerRow("ResBlock", (channels, size, size), 0))
            inputs = channels
    return [*rows, LayerRow("Linear", (10,), 512 * 10 + 10)]


def test_render_is_torchsummarys_output_to_the_byte():
    rows = [
        LayerRow("Conv2d", (40, 32, 32), 1080),
        LayerRow("BatchNorm2d", (40, 32, 32), 80),
        LayerRow("ReLU", (40, 32, 32), 0),
        LayerRow("AdaptiveAvgPool2d", (40, 1, 1), 0),
        LayerRow("Flatten", (40,), 0),
        LayerRow("Linear", (10,), 410),
    ]
    assert render(rows, (3, 32, 32)) + "\n" == TORCHSUMMARY


def test_the_sums_of_resnet18():
    rows = resnet18_rows()
    assert len(rows) == 58
    sums = totals(rows, (3, 32, 32))
    assert sums.params == 11_173_962
    assert f"{sums.input_size:.2f}" == "0.01"
    assert f"{sums.forward_backward_size:.2f}" == "13.63"
    assert f"{sums.params_size:.2f}" == "42.63"
    assert f"{sums.total_size:.2f}" == "56.26"
    assert render(rows, (3, 32, 32)).splitlines()[60] == f"{'Linear-58':>20}  {'[-1, 10]':>25} {'5,130':>15}"
