"""h is used three times: the gradients that come back are added before they go on."""

import torch

x = torch.tensor(2.0, requires_grad=True)
h = 3 * x
y = h * h + torch.sin(h)
y.backward()
print(x.grad)
