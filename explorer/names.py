"""The program's names for the tensors and layers that it holds."""

import contextlib
import weakref
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

import torch

from explorer.engine import sequence_of
from explorer.program import FILENAME

MOST_ITEMS = 256
"""Items of one list, tuple, dict or object that are looked at."""


class Names:
    """Finds what tensors are called at a moment of the program: ``w``, ``net.fc.weight``, ``ws[0]``."""

    def __init__(self, namespace: Mapping[str, Any], ignored: Iterable[str]) -> None:
        self.modules: dict[int, str] = {}
        self.grad_fns: dict[int, str] = {}
        self._namespace = namespace
        self._ignored = frozenset(ignored)
        self._parameters: dict[int, tuple[weakref.ref, list[tuple[int, str]]]] = {}
        self._looks = 0

    def find(self, frame: FrameType | None) -> dict[int, str]:
        """Names by the ``id()`` of the tensors held now, globals before the locals of running functions.

        ``grad_fns`` then tells the names of tensors with a grad_fn by its sequence number, ``modules`` those
        of layers by their ``id()``.
        """
        names: dict[int, str] = {}
        self._looks += 1
        self.grad_fns.clear()
        self._name_in(self._namespace, names)
        while frame is not None:
            if frame.f_code.co_filename == FILENAME and frame.f_code.co_name != "<module>":
                self._name_in(frame.f_locals, names)
            frame = frame.f_back
        return names

    @staticmethod
    def add_layers(names: dict[int, str], modules: Iterable[torch.nn.Module]) -> None:
        """Parameters of a layer that no variable holds are named after its class: ``LSTM.weight_ih_l0``."""
        for module in modules:
            for path, parameter in module.named_parameters():
                names.setdefault(id(parameter), f"{type(module).__name__}.{path}")

    def _name_in(self, scope: Mapping[str, Any], names: dict[int, str]) -> None:
        for name, value in list(scope.items()):
            if name not in self._ignored:
                self._name_value(name, value, names, depth=2)

    def _name_value(self, name: str, value: Any, names: dict[int, str], depth: int) -> None:
        kind = type(value)
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            names.setdefault(id(value), name)
            if value.requires_grad and not value.is_leaf and not value._is_view():
                # A view's grad_fn is made anew on the way when its base was changed in place: do not ask for it.
                self.grad_fns.setdefault(sequence_of(value.grad_fn), name)
        elif isinstance(value, torch.nn.Module):
            # A module may lack its __init__ or have a named_parameters() of its own.
            with contextlib.suppress(Exception):
                self._name_parameters(name, value, names)
        elif depth and kind in (list, tuple):
            for index, item in enumerate(value[:MOST_ITEMS]):
                self._name_value(f"{name}[{index}]", item, names, depth - 1)
        elif depth and kind is dict:
            for key, item in list(value.items())[:MOST_ITEMS]:
                # The text of any other key is the program's own code.
                if type(key) is str or (type(key) is int and key.bit_length() < 64):
                    self._name_value(f"{name}[{key!r}]", item, names, depth - 1)
        elif depth and kind.__module__ == "__main__" and hasattr(value, "__dict__"):
            for key, item in list(vars(value).items())[:MOST_ITEMS]:
                self._name_value(f"{name}.{key}", item, names, depth - 1)

    def _name_parameters(self, name: str, module: torch.nn.Module, names: dict[int, str]) -> None:
        known = self._parameters.get(id(module))
        if known is None or known[0]() is not module or self._looks < 3:
            for path, child in module.named_modules():
                self.modules.setdefault(id(child), f"{name}.{path}" if path else name)
            found = [(id(parameter), f"{name}.{path}") for path, parameter in module.named_parameters()]
            known = self._parameters[id(module)] = (weakref.ref(module), found)
        for key, path in known[1]:
            names.setdefault(key, path)
