"""Gradients add up in .grad until they are zeroed: 4, then 4 + 12, then 12."""

import torch

x = torch.tensor(2.0, requires_grad=True)
y = x**2
y.backward()
print(x.grad)
y = x**3
y.backward()
print(x.grad)
x.grad.zero_()
y = x**3
y.backward()
print(x.grad)
