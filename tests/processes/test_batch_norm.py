"""The batch norm over several processes' batches, beside PyTorch's over one batch."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from parity.verify.process_runs import free_port

ROOT = Path(__file__).parent.parent.parent
SHARES = (3, 2)  # images of each process: they may differ
PROGRAM = """
import os, sys
import torch
import torch.distributed as dist
from torch_ref.nn.batch_norm import GlobalBatchNorm
dist.init_process_group("gloo")
given = torch.load(sys.argv[1], weights_only=False)
norm = GlobalBatchNorm(given["norm"])
rank = dist.get_rank()
x = given["x"].split(given["shares"])[rank].requires_grad_()
y = norm(x)
(y * given["dy"].split(given["shares"])[rank]).sum().backward()
norm.eval()
torch.save({"y": y.detach(), "dx": x.grad, "dw": norm.weight.grad, "db": norm.bias.grad,
            "buffers": dict(norm.named_buffers()), "eval": norm(x).detach()}, f"{sys.argv[1]}.{rank}")
dist.barrier()  # else gloo may end the other one, whose thread still listens
dist.destroy_process_group()
"""


def test_two_shares_are_normalised_as_one_batch(tmp_path: Path):
    torch.manual_seed(0)
    shape = (sum(SHARES), 4, 3, 5)
    x = torch.randn(shape, dtype=torch.float64) * 2 + 30  # far from zero, where E[x²] − E[x]² loses digits
    dy = torch.randn(shape, dtype=torch.float64)
    norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.2).double()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    torch.save({"norm": copy.deepcopy(norm), "x": x, "dy": dy, "shares": SHARES}, tmp_path / "given")
    port = str(free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "given")], cwd=ROOT,
            env=os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank),
                              "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [process.wait(120) for process in started] == [0, 0]
    found = [torch.load(tmp_path / f"given.{rank}") for rank in range(2)]

    whole = x.clone().requires_grad_()
    y = norm(whole)
    (y * dy).sum().backward()
    norm.eval()
    close = {"rtol": 1e-10, "atol": 1e-12}
    assert norm.weight.grad is not None
    torch.testing.assert_close(torch.cat([each["y"] for each in found]), y.detach(), **close)
    torch.testing.assert_close(torch.cat([each["dx"] for each in found]), whole.grad, **close)
    torch.testing.assert_close(found[0]["dw"] + found[1]["dw"], norm.weight.grad, **close)
    torch.testing.assert_close(found[0]["db"] + found[1]["db"], norm.bias.grad, **close)
    torch.testing.assert_close(torch.cat([each["eval"] for each in found]), norm(whole).detach(), **close)
    for each in found:
        assert each["buffers"].keys() == dict(norm.named_buffers()).keys()
        for name, buffer in norm.named_buffers():
            torch.testing.assert_close(each["buffers"][name], buffer, **close)
