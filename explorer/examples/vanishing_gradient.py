"""Eight sigmoids in a row: each multiplies the gradient by at most 0.25, so little arrives at x."""

import torch

x = torch.tensor(1.0, requires_grad=True)
h = x
for _ in range(8):
    h = torch.sigmoid(h)
h.backward()
print(x.grad)
