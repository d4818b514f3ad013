"""Writing into a slice: the overwritten element gets no gradient, the written value gets its own."""

import torch

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
value = torch.tensor(5.0, requires_grad=True)
y = 2 * x
y[0] = value
loss = (y**2).sum()
loss.backward()
print(x.grad, value.grad)
