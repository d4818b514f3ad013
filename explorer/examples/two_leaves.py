"""Two leaves, two gradients: each tells how much z moves when that leaf moves a little."""

import torch

x = torch.tensor(2.0, requires_grad=True)
y = torch.tensor(3.0, requires_grad=True)
z = x * y + y**2
z.backward()
print(x.grad, y.grad)
