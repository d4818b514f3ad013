"""What is computed inside torch.no_grad() leaves no graph, so an update is no part of the next pass."""

import torch

w = torch.tensor(3.0, requires_grad=True)
loss = (w - 1) ** 2
loss.backward()
with torch.no_grad():
    w -= 0.25 * w.grad
    after = (w - 1) ** 2
print(w, after.requires_grad)
