"""gradient= picks one row of the Jacobian: here that of the second probability."""

import torch

scores = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
probabilities = torch.softmax(scores, dim=0)
probabilities.backward(gradient=torch.tensor([0.0, 1.0, 0.0]))
print(scores.grad)
