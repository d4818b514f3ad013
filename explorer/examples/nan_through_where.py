"""Every number of the forward pass is fine, yet x.grad has a nan: 0 times the infinite slope of sqrt at 0."""

import torch

x = torch.tensor([0.0, 4.0], requires_grad=True)
root = torch.sqrt(x)
y = torch.where(x > 0, root, torch.zeros(2))
y.sum().backward()
print(x.grad)
