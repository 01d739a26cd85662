"""A small network for series: an LSTM reads, a GRU's cell looks ahead step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Forecaster(nn.Module):
    """Series (batch, steps, 5), the weekdays of their steps and their lengths, to the next three values."""

    def __init__(self, hidden: int = 12, horizon: int = 3):
        super().__init__()
        self.horizon = horizon
        self.weekday = nn.Embedding(7, 4)
        self.encoder = nn.LSTM(5 + 4, hidden, batch_first=True)
        self.context = nn.Linear(hidden, hidden)
        self.cell = nn.GRUCell(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.readout = nn.Sequential(
            nn.Linear(hidden, hidden), nn.Tanh(), nn.Dropout(0.2), nn.Linear(hidden, 2)
        )

    def forward(self, series: Tensor, weekdays: Tensor, lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = torch.cat([series, self.weekday(weekdays)], dim=-1)
        states, (_, memory) = self.encoder(x)
        h = states[torch.arange(len(x)), lengths - 1]
        context = self.context(h)
        forecast = []
        for _ in range(self.horizon):
            h = self.cell(context, h)
            forecast.append(self.readout(self.norm(h)))
        return torch.stack(forecast, dim=1), {"state": h, "memory": memory[0]}
