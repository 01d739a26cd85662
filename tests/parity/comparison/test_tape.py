"""PyTorch's operations are kept, and done again, without a trace in the network."""

from __future__ import annotations

import torch
from torch import nn

from parity.comparison.sides.torch_tape import Tape


def test_a_piece_is_done_again_with_a_change_and_leaves_running_statistics_alone():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Tape({id(p): n for n, p in net.named_parameters()}) as tape:
        y = net(x)
        tape.arrives("end", y)
    before = {n: t.clone() for n, t in net.named_buffers()}
    piece = tape.piece("end")
    assert piece is not None
    assert torch.equal(piece.value, y)
    (relu,) = (i for i in piece.order if piece[i].name == "relu")
    with torch.no_grad():
        found = piece.again({relu: lambda x, *_, **__: x})
        expected = net[2](nn.functional.batch_norm(x, None, None, net[0].weight, net[0].bias, training=True))
    assert torch.allclose(found, expected)
    assert all(torch.equal(before[n], t) for n, t in net.named_buffers())
