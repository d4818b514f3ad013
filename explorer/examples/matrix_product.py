"""For C = A @ B the gradients are products too: G @ B.T for A, and A.T @ G for B."""

import torch

A = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
B = torch.tensor([[5.0, 6.0], [7.0, 8.0]], requires_grad=True)
C = A @ B
C.sum().backward()
print(A.grad)
print(B.grad)
