"""Gradient descent by hand: w and b find the line y = 3x + 2 behind noisy points."""

import torch

torch.manual_seed(42)
x = torch.randn(100, 1)
y = 3 * x + 2 + 0.5 * torch.randn(100, 1)
w = torch.zeros(1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
learning_rate = 0.1
for epoch in range(50):
    loss = ((w * x + b - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
        b -= learning_rate * b.grad
    w.grad.zero_()
    b.grad.zero_()
    if epoch % 10 == 9:
        print(f"loss {loss.item():.4f}, w {w.item():.2f}, b {b.item():.2f}")
