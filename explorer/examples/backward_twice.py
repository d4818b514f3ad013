"""Fails on purpose: the first backward() freed what the graph had saved, and the second needs it."""

import torch

x = torch.tensor(3.0, requires_grad=True)
y = x * x
y.backward()
y.backward()
