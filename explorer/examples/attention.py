"""Attention in three lines: each query takes the values in proportion to how well its key fits."""

import torch

torch.manual_seed(0)
query = torch.randn(3, 4, requires_grad=True)
key = torch.randn(3, 4, requires_grad=True)
value = torch.randn(3, 4, requires_grad=True)
scores = query @ key.T / 4**0.5
weights = torch.softmax(scores, dim=1)
output = weights @ value
output.pow(2).sum().backward()
print(weights)
