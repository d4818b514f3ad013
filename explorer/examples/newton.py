"""Newton's method steps by slope / curvature, and finds the square root of 2 in five steps."""

import torch

x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
for step in range(5):
    f = x**3 / 3 - 2 * x
    (slope,) = torch.autograd.grad(f, x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, x)
    with torch.no_grad():
        x -= slope / curvature
    print(step, x.item())
