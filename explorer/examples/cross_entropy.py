"""The gradient of cross entropy is short: the probabilities, minus one at the target."""

import torch
import torch.nn.functional as F

scores = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
target = torch.tensor([0])
loss = F.cross_entropy(scores, target)
loss.backward()
print(scores.grad)
print(scores.softmax(dim=1).detach() - F.one_hot(target, 3))
