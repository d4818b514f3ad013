"""detach() cuts the graph: the second factor counts as a constant, and x.grad is 4, not 12."""

import torch

x = torch.tensor(2.0, requires_grad=True)
constant = (x**2).detach()
y = constant * x
y.backward()
print(x.grad)
