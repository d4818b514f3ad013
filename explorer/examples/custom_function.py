"""Your own backward: rounding has derivative 0, so this one lets the gradient straight through."""

import torch


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


x = torch.tensor([0.2, 1.7], requires_grad=True)
y = StraightThrough.apply(x)
loss = (y**2).sum()
loss.backward()
print(x.grad)
