"""A column times a row gives a table: going back, each gradient is summed to its own shape."""

import torch

column = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
row = torch.tensor([10.0, 20.0], requires_grad=True)
table = column * row
table.sum().backward()
print(column.grad, row.grad)
