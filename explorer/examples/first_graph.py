"""One short chain: backward() walks it from y to x, and leaves the derivative in x.grad."""

import torch

x = torch.tensor(2.0, requires_grad=True)
y = 3 * torch.sigmoid(x) + 5
y.backward()
print(x.grad)
