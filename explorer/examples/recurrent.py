"""One weight at every time step: its gradient is the sum over the steps, back through time."""

import torch

inputs = [1.0, 0.5, -1.0]
w = torch.tensor(0.8, requires_grad=True)
u = torch.tensor(0.5, requires_grad=True)
h = torch.tensor(0.0)
for x in inputs:
    h = torch.tanh(w * h + u * x)
h.backward()
print(w.grad, u.grad)
