"""An edge filter on a 5 x 5 image: one small kernel collects gradient from every place it touched."""

import torch
import torch.nn.functional as F

image = torch.zeros(1, 1, 5, 5)
image[:, :, :, 2:] = 1
kernel = torch.tensor([[[[-1.0, 1.0], [-1.0, 1.0]]]], requires_grad=True)
edges = F.conv2d(image, kernel)
loss = F.relu(edges).sum()
loss.backward()
print(edges)
print(kernel.grad)
