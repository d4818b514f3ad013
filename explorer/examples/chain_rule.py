"""A chain of three: the gradient on each edge is the product of the derivatives passed so far."""

import torch

x = torch.tensor(0.5, requires_grad=True)
u = x**2
v = torch.sin(u)
y = torch.exp(v)
y.backward()
print(x.grad)
