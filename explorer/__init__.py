"""Autograd Explorer: type PyTorch, see the graph it builds, step its backward pass."""

__version__ = "0.1.0"
