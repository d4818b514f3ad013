"""Plain words for a Problem: what happened and what to do about it."""

import ast
import builtins
import contextlib
import difflib
import re
from collections.abc import Callable
from typing import Any

from explorer.narrate import join_words

PRELOADED = ("torch", "nn", "F", "optim", "math", "np")

_COMMON_NAMES = frozenset(
    """
    abs acos adam add all any arange argmax argmin autograd backward bmm cat chunk clamp clone conv2d cos cosh cpu
    cross_entropy cumsum data detach device div dot dropout dtype einsum embedding empty exp expand expand_as eye
    flatten float full gather gelu grad grad_fn index_select is_leaf item layer_norm linspace log log_softmax long
    manual_seed masked_fill matmul max mean min mm mse_loss mul mv named_parameters ndim nll_loss no_grad norm numel
    numpy ones ones_like parameters permute pow prod rand randint randn randn_like relu repeat requires_grad
    requires_grad_ reshape retain_grad retain_graph round select shape sigmoid sin sinh size softmax softplus split
    sqrt squeeze stack std step sub sum tan tanh tensor topk transpose unsqueeze var view where zero_ zero_grad
    zeros zeros_like BCELoss BatchNorm1d BatchNorm2d Conv1d Conv2d CrossEntropyLoss Dropout Embedding Flatten GELU
    GRU LSTM LayerNorm Linear MSELoss MaxPool2d Module ModuleList MultiheadAttention NLLLoss Parameter RNN ReLU
    Sequential Sigmoid Softmax Tanh TransformerEncoderLayer Adam AdamW RMSprop SGD lr_scheduler StepLR
    """.split()  # noqa: SIM905
)

Words = tuple[str, str]


def explain_problem(type: str, message: str, *, line: int | None, source: str) -> Words:
    """(explanation, hint) for the exception ``type: message`` that ended the program ``source`` at ``line``.

    Never raises; an unknown problem gets a general explanation.
    """
    if type in _LIMITS:
        return _LIMITS[type]
    if type in ("SyntaxError", "IndentationError", "TabError"):
        return _explain_text(_SYNTAX, message) or _SYNTAX[-1][1]
    place = _Place(source, line)
    for pattern, explain in _EXPLAINERS:
        match = re.search(pattern, message)
        if match:
            # ast.unparse recurses, and a program may be one very long expression.
            with contextlib.suppress(RecursionError):
                return explain(place, match)
    words = _explain_text(_MESSAGES, message) or _TYPES.get(type)
    if words:
        return words
    where = f"Line {line}" if line else "The program"
    return f"{where} raised {type}, and nothing caught it.", "Print the values that the line works with."


def _explain_text(entries: list[tuple[str, Words]], message: str) -> Words | None:
    for pattern, (explanation, hint) in entries:
        match = re.search(pattern, message, re.DOTALL)
        if match:
            return explanation.format(**match.groupdict()), hint.format(**match.groupdict())
    return None


class _Place:
    """The failing line in its program: what its statement, and the lines before it, say."""

    def __init__(self, source: str, line: int | None):
        self.source, self.line = source, line
        try:
            self.tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.tree = ast.Module([], [])
        self.nodes = list(ast.walk(self.tree))
        self.statement = self._find_statement()

    def _find_statement(self) -> list[ast.AST]:
        """The nodes of the innermost statement on the line; of a ``for`` or ``with``, its first line only."""
        around = [
            node
            for node in self.nodes
            if isinstance(node, ast.stmt) and self.line and node.lineno <= self.line <= (node.end_lineno or node.lineno)
        ]
        if not around:
            return []
        inside = [node for node in ast.walk(around[-1]) if hasattr(node, "lineno")]
        return [node for node in inside if node.lineno == self.line] if hasattr(around[-1], "body") else inside

    def owner(self, *attributes: str) -> str | None:
        """``z`` where the statement says ``z.backward()`` and "backward" is asked for."""
        for node in self.statement:
            if isinstance(node, ast.Attribute) and node.attr in attributes:
                text = ast.unparse(node.value)
                return text if len(text) <= 30 else None
        return None

    def operands(self) -> tuple[str, str] | None:
        """The two sides of the statement's only ``@``."""
        found = [node for node in self.statement if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)]
        if len(found) != 1:
            return None
        left, right = ast.unparse(found[0].left), ast.unparse(found[0].right)
        return (left, right) if len(left) + len(right) <= 40 else None

    def calls(self, *names: str) -> list[ast.Call]:
        """Calls of ``names`` anywhere in the program, in the order of its lines."""
        found = [node for node in self.nodes if isinstance(node, ast.Call) and _called(node) in names]
        return sorted(found, key=lambda call: call.lineno)

    def assignment(self, name: str) -> ast.Assign | None:
        """The last assignment to ``name``."""
        found = [
            node
            for node in self.nodes
            if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets)
        ]
        return max(found, key=lambda node: node.lineno, default=None)

    def is_known_not_to_require_grad(self, name: str) -> bool:
        """Whether ``name`` was made by a torch call that says nothing of ``requires_grad``, nor does the rest."""
        made = self.assignment(name)
        value = made.value if made else None
        return (
            isinstance(value, ast.Call)
            and ast.unparse(value.func) in ("torch.tensor", "torch.randn", "torch.rand", "torch.ones", "torch.zeros")
            and not any(word.arg == "requires_grad" for word in value.keywords)
            and not re.search(rf"\b{re.escape(name)}\.(requires_grad|retain_grad)", self.source)
        )

    def cuts(self) -> list[str]:
        """What may have cut the graph up to the line, as "detach() on line 3"."""
        found = []
        for statement in self.nodes:
            is_kept = isinstance(statement, ast.Assign | ast.With)
            is_here = isinstance(statement, ast.Expr) and statement.lineno == self.line
            if not (is_kept or is_here) or (self.line and statement.lineno > self.line):
                continue
            inside = statement.items if isinstance(statement, ast.With) else [statement.value]
            for node in (child for part in inside for child in ast.walk(part)):
                text = _cut(node)
                if text:
                    found.append((statement.lineno, text))
        return [f"{text} on line {line}" for line, text in sorted(set(found))][:3]

    def writes(self) -> list[tuple[int, str, str]]:
        """In-place changes up to the line: (line, its text, the same out of place)."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.AugAssign):
                target = ast.unparse(node.target)
                whole = ast.unparse(ast.BinOp(node.target, node.op, node.value))
                instead = f"{target} = {whole}" if isinstance(node.target, ast.Name) else ""
                found.append((node.lineno, ast.unparse(node), instead))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
                found.append((node.lineno, ast.unparse(node), ""))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _writes(node.func.attr):
                owner = ast.unparse(node.func.value)
                method, text = node.func.attr[:-1], ast.unparse(node)
                rest = text.removeprefix(f"{owner}.{method}_")
                instead = f"{owner} = {owner}.{method}{rest}" if method in _COMMON_NAMES else ""
                found.append((node.lineno, text, instead))
        return sorted(write for write in found if not self.line or write[0] <= self.line)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _writes(method: str) -> bool:
    return method.endswith("_") and not method.endswith("__") and not method.startswith("requires_grad")


def _cut(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and node.attr == "data":
        return ".data"
    if not isinstance(node, ast.Call):
        return None
    if _called(node) in ("detach", "item", "numpy", "tolist", "argmax", "argmin", "long", "no_grad", "inference_mode"):
        return f"{_called(node)}()"
    is_copy = _called(node) == "tensor" and any(isinstance(n, ast.Name) for a in node.args for n in ast.walk(a))
    return "torch.tensor(...)" if is_copy else None


def _no_graph(place: _Place, match: re.Match) -> Words:
    name = place.owner("backward") or "The tensor"
    if _is_gradient(place, name):
        return (
            "This is a gradient that was computed without a graph of its own, so it cannot be differentiated.",
            "Pass create_graph=True where the gradient is computed.",
        )
    explanation = f"{name} has no grad_fn and does not require grad, so there is no graph to go back through."
    cuts = place.cuts()
    if cuts:
        return (
            f"{explanation} What can cut a graph here: {join_words(cuts)}.",
            "Keep the way from the leaf to the loss whole.",
        )
    if "requires_grad" not in place.source and "nn." not in place.source:
        return f"{explanation} No tensor of the program requires grad.", "Create the leaf with requires_grad=True."
    return explanation, "Compute it from a leaf with requires_grad=True, outside torch.no_grad()."


def _is_gradient(place: _Place, name: str) -> bool:
    """Whether the tensor called ``name``, or else what the statement differentiates, is itself a gradient."""
    earlier = [call for call in place.calls("grad", "backward") if place.line and call.lineno < place.line]
    if any(word.arg == "create_graph" for call in earlier for word in call.keywords):
        return False
    if name != "The tensor":
        made = place.assignment(name)
        from_grad = made is not None and any(isinstance(n, ast.Call) and _called(n) == "grad" for n in ast.walk(made))
        return name.endswith(".grad") or from_grad
    differentiates = any(isinstance(node, ast.Call) and _called(node) == "grad" for node in place.statement)
    return differentiates and any(_called(call) == "grad" for call in earlier)


def _not_scalar(place: _Place, match: re.Match) -> Words:
    name = place.owner("backward") or "The tensor"
    use = f"{name}.sum().backward()" if name != "The tensor" else "sum() or mean()"
    return (
        f"{name} has more than one element. backward() needs to know how much each of them counts.",
        f"Reduce it to a scalar first, {use}, or pass gradient= a tensor of the same shape.",
    )


def _backward_twice(place: _Place, match: re.Match) -> Words:
    calls = [
        call for call in place.calls("backward") if ast.unparse(call.func) == f"{place.owner('backward')}.backward"
    ]
    earlier = [call.lineno for call in calls if place.line and call.lineno < place.line]
    when = f"The backward() on line {earlier[-1]}" if earlier else "An earlier pass"
    return (
        f"{when} freed the tensors that the graph had saved. This pass needs them again.",
        "Compute the loss again before each backward(), or pass retain_graph=True to the earlier one.",
    )


def _saved_was_changed(place: _Place, match: re.Match) -> Words:
    maker = f"the output of {match['maker']}, " if match["maker"] else ""
    explanation = (
        f"The backward pass needs a tensor ({maker}shape [{match['shape']}]) as it was at version {match['old']}. "
        f"It was changed in place since and is at version {match['new']}."
    )
    writes = place.writes()
    if not writes:
        return explanation, "Replace the in-place operation by one that makes a new tensor."
    told = join_words([f"line {line}, {text}" for line, text, _ in writes[:3]])
    instead = next((instead for _, _, instead in writes if instead), None)
    return (
        f"{explanation} In-place here: {told}.",
        f"Make a new tensor instead: {instead}." if instead else "Make a new tensor instead, or change a clone().",
    )


def _leaf_was_changed(place: _Place, match: re.Match) -> Words:
    line = place.line
    found = next((write for write in place.writes() if write[0] == line), None)
    text = f"{found[1]} changes" if found else "This line changes"
    return (
        f"{text} a leaf that requires grad in place. Autograd would lose the value the graph was built on.",
        "For an update, put the line inside `with torch.no_grad():`."
        + (f" Otherwise make a new tensor: {found[2]}." if found and found[2] else ""),
    )


def _none(place: _Place, match: re.Match) -> Words:
    name = place.owner("grad")
    if name is None:
        what = (
            f"This value is None, which has no {match['attribute']}." if match["attribute"] else "A value here is None."
        )
        return what, "A .grad is None until a backward() has filled it. A function without return gives None."
    grad = f"{name}.grad"
    passes = place.calls("backward")
    earlier = [call for call in passes if place.line is None or call.lineno < place.line]
    if not earlier:
        uses_grad = place.calls("grad") and not passes
        because = "autograd.grad() returns gradients and fills no .grad" if uses_grad else "no backward() has run"
        return (
            f"{grad} is None: {because}" + (f" before line {place.line}." if place.line and not uses_grad else "."),
            f"Call backward() on a loss made from {name} first.",
        )
    if place.is_known_not_to_require_grad(name):
        return f"{grad} is None: {name} does not require grad.", f"Create {name} with requires_grad=True."
    made = place.assignment(name)
    if made is not None and any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(made.value)):
        return (
            f"{grad} is None: line {made.lineno} makes {name} the result of an operation. "
            "backward() fills .grad of leaves only.",
            f"Update {name} in place, with {name} -= inside torch.no_grad().",
        )
    zeroed = [call for call in place.calls("zero_grad") if place.line is None or call.lineno < place.line]
    if zeroed and max(call.lineno for call in zeroed) > max(call.lineno for call in earlier):
        return (
            f"{grad} is None: zero_grad() on line {zeroed[-1].lineno} set it to None, and no backward() has run since.",
            "Read .grad after backward() and before the next zero_grad().",
        )
    return (
        f"{grad} is None: no backward() reached {name} as a leaf.",
        f"Check that {name} is a leaf with requires_grad=True, that the loss is computed from it, "
        "and that zero_grad() has not just set its .grad to None.",
    )


def _product(place: _Place, match: re.Match) -> Words:
    rows1, columns1, rows2, columns2 = (int(match[i]) for i in range(1, 5))
    left, right = place.operands() or ("mat1", "mat2")
    explanation = (
        f"The inner sizes differ: {left} is {rows1} x {columns1} and {right} is {rows2} x {columns2}, "
        f"so {columns1} meets {rows2}."
    )
    if "Linear" in place.source and not place.operands():
        return explanation, f"A Linear layer here takes {rows2} features and was given {columns1}."
    if columns1 == columns2:
        return explanation, f"{right}.T is {columns2} x {rows2} and would fit."
    if rows1 == rows2:
        return explanation, f"{left}.T is {columns1} x {rows1} and would fit."
    return explanation, "Print both shapes before this line."


def _unknown_name(place: _Place, match: re.Match) -> Words:
    name = match["name"]
    assigned = [node for node in place.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    lines = sorted(node.lineno for node in assigned if node.id == name)
    if lines and place.line and lines[0] > place.line:
        return f"{name} is used before it is given a value, on line {lines[0]}.", "Move that line up."
    defined = {node.name for node in place.nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    known = {node.id for node in assigned} | defined | {*PRELOADED, *dir(builtins)}
    if name in _COMMON_NAMES:
        home = "nn" if name[0].isupper() else "torch"
        return f"There is no {name} of its own.", f"Did you mean {home}.{name}?"
    return f"Nothing is called {name} at this point.", _suggest(name, known) or "Give it a value on an earlier line."


def _unknown_attribute(place: _Place, match: re.Match) -> Words:
    owner, name = match["owner"], match["name"]
    if owner in ("float", "int", "bool") and name in ("backward", "grad", "grad_fn", "detach"):
        return (
            f"This is a plain Python {owner}. item(), float() and the like leave the graph.",
            f"Keep the tensor, and call {name} on it.",
        )
    if "method" in owner or owner == "function":
        return "This is a function that was not called.", f"Write its parentheses before .{name}."
    if owner == "list":
        return f"This is a Python list, and lists have no {name}.", "torch.tensor(...) makes a tensor of numbers."
    if owner.startswith("torch.return_types"):
        return f"This is a tuple with the fields of {owner}.", f"Take a field first, with .values.{name} for example."
    return f"{owner} has no {name}.", _suggest(name, _COMMON_NAMES) or "Check the spelling."


def _unknown_import(place: _Place, match: re.Match) -> Words:
    return f"{match['module']} has no {match['name']}.", _suggest(match["name"], _COMMON_NAMES) or "Check the spelling."


def _suggest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return f"Did you mean {close[0]}?" if close and close[0] != name else ""


_EXPLAINERS: list[tuple[str, Callable[[_Place, re.Match], Words]]] = [
    (r"does not require grad and does not have a grad_fn", _no_graph),
    (r"grad can be implicitly created only for scalar outputs", _not_scalar),
    (r"backward through the graph a second time", _backward_twice),
    (
        r"modified by an inplace operation: \[[\w.]+ \[(?P<shape>.*?)\]\](, which is output \d+ of "
        r"([a-z]+::)*(?P<maker>\w+),)? is at version (?P<new>\d+); expected version (?P<old>\d+)",
        _saved_was_changed,
    ),
    (r"leaf Variable that requires grad is being used in an in-place operation", _leaf_was_changed),
    (r"'NoneType' object has no attribute '(?P<attribute>\w+)'", _none),
    (r"NoneType(?P<attribute>)", _none),
    (r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)", _product),
    (r"name '(?P<name>\w+)' is not defined", _unknown_name),
    (r"'(?P<owner>[\w.]+)' (object )?has no attribute '(?P<name>\w+)'", _unknown_attribute),
    (r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'", _unknown_import),
]
"""What depends on the program's text. Patterns here and below match PyTorch 2.13's and Python's own messages."""


def _read(text: str) -> list[tuple[str, Words]]:
    """Three lines an entry: the pattern (or type), the explanation, the hint."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return [(lines[i], (lines[i + 1], lines[i + 2])) for i in range(0, len(lines), 3)]


_MESSAGES = _read(r"""
can't allocate memory|out of memory
    The program asked for more memory than there is.
    Use smaller tensors.
multi-target not supported
    The target must hold one class number for each row of the input.
    Give it the shape (batch,), with squeeze() for example.
to return a scalar
    The derivative asked for is that of a function with one number as its result.
    Reduce the result with sum() or mean(), or use torch.func.jacrev.
can only concatenate str
    + joins text with text only.
    Use an f-string, or str().
differentiated Tensors does not require grad
    The derivative is asked for with respect to a tensor that does not require grad.
    Create it with requires_grad=True before the computation.
is a view and is being modified inplace
    This is one of several views that one operation returned. Autograd cannot follow an in-place change of it.
    Make a new tensor instead, or clone() the view first.
view was created in no_grad mode
    The view was made inside torch.no_grad(), and it is changed in place outside.
    Do both inside torch.no_grad(), or both outside.
appears to not have been used in the graph
    The output does not depend on one of the tensors that its derivative is asked for.
    Compute the output from that tensor, or pass allow_unused=True to get None.
Mismatch in shape: grad_output\S+ has a shape of .*?(?P<given>\[.*?\]).* has a shape of .*?(?P<own>\[.*?\])
    gradient has shape {given}, and the tensor has shape {own}. They must be equal.
    gradient holds one number for each element of the output.
gradients can be either Tensors or None
    gradient must be a tensor.
    Wrap the numbers: torch.tensor([1.0, 2.0]).
[Oo]nly Tensors of floating point (and complex )?dtype can require gradients
    Integers have no derivative. Only floating point and complex tensors can require grad.
    Write the numbers with a point, torch.tensor(2.0), or pass dtype=torch.float32.
only change requires_grad flags of leaf variables
    This tensor is the result of an operation. Only a leaf may have its requires_grad changed.
    Use detach() to get a tensor outside the graph.
derivative for '(?P<name>[\w:.]+)' is not implemented
    PyTorch has no derivative for {name}.
    detach() its input, or use another operation.
You must implement either the backward or vjp method
    The autograd.Function has no backward.
    Add a static method backward(ctx, grad_output).
returned an incorrect number of gradients \(expected (?P<expected>\d+), got (?P<got>\d+)\)
    Gradients returned by backward(): {got}. Inputs of forward(): {expected}.
    Return one gradient for each input of forward(), None for those that need none.
Function '?(?P<name>\w+)'? returned nan values
    {name} is the first node that sent a nan. detect_anomaly() stopped there.
    Look at its input. 0 * inf and the square root of 0 are the usual causes.
Legacy autograd function
    An autograd.Function is not called like an object.
    Write Name.apply(x), with static forward and backward.
graph leaves\) support the deepcopy
    The result of an operation cannot be deep-copied.
    Use clone(), or detach().clone().
[Ii]nference tensor
    A tensor made inside torch.inference_mode() cannot enter a graph.
    Use torch.no_grad() instead, or clone() the tensor outside.
assign a gradient of size '(?P<given>.*?)' to a tensor of size '(?P<own>.*?)'
    A gradient of shape {given} cannot belong to a tensor of shape {own}.
    A .grad has the shape of its tensor.
assigned grad expected to be a Tensor or None
    .grad must be a tensor or None.
    Assign None to reset it.
size of tensor a \((?P<a>\d+)\) must match the size of tensor b \((?P<b>\d+)\) at non-singleton dimension (?P<d>\d+)
    At dimension {d} one tensor has size {a}, the other {b}. To broadcast they must be equal, or one of them 1.
    Dimensions are matched from the last one. unsqueeze(dim) adds a dimension of size 1.
shape '(?P<shape>\[.*?\])' is invalid for input of size (?P<size>\d+)
    The tensor has {size} elements, and {shape} holds another number of them.
    The product of the new sizes must be {size}. One of them may be -1.
view size is not compatible
    The elements do not lie in memory in the order that view() needs.
    Use reshape(), which copies where it must.
except in dimension (?P<d>\d+)\. Expected size (?P<a>\d+) but got size (?P<b>\d+)
    cat joins along dimension {d}. All other sizes must agree, and {a} and {b} do not.
    Reshape one of the tensors, or pass another dim.
stack expects each tensor to be equal size
    stack needs tensors of one shape.
    Use torch.cat for tensors that differ along one dimension.
expanded size of the tensor \((?P<a>-?\d+)\) must match the existing size \((?P<b>\d+)\)
    A dimension of size {b} cannot be expanded to {a}. Only size 1 can.
    Check the shapes on both sides.
to have (?P<a>\d+) channels, but got (?P<b>\d+) channels
    The convolution takes {a} channels, and the input has {b}.
    The input's shape is (batch, channels, height, width).
Expected \d+D.*input to (?P<name>\w+), but got input of size: (?P<shape>\[.*?\])
    {name} cannot take an input of shape {shape}.
    unsqueeze(0) adds a batch or a channel dimension.
Kernel size can't be greater than actual input size
    The kernel is larger than the image.
    Use a smaller kernel, or padding.
Given normalized_shape=(?P<own>\[.*?\]).*got input of size(?P<given>\[.*?\])
    The layer normalizes {own}, and the input is {given}.
    The input's last dimensions must be the layer's.
batch_size \((?P<a>\d+)\) to match target batch_size \((?P<b>\d+)\)
    Predictions: {a}. Targets: {b}.
    Give one target for each row of the input.
Target size \(torch\.Size\((?P<a>.*?)\)\) must be the same as input size \(torch\.Size\((?P<b>.*?)\)\)
    The target has shape {a}, the input {b}.
    Make them equal with squeeze(), unsqueeze() or view_as().
doesn't match the broadcast shape
    Broadcasting would change the shape of the tensor that is written into.
    Use the out-of-place operation.
[Ss]ize mismatch|tensor size, expected|for first two dimensions|equal to input_size|input to be \dD|number of dim
    The shapes do not fit this operation.
    Print the shape of each argument before this line.
Expected more than 1 value per channel when training
    BatchNorm needs more than one example to take a variance.
    Use a larger batch, or call eval() first.
the same dtype, but got:? (?P<a>[\w ]+?) (and|!=) (?P<b>[\w ]+)
    One tensor is {a}, the other {b}. A matrix product needs one dtype.
    Convert one of them with .to(other.dtype).
could not infer output dtype|can't be cast to the desired output type
    The result is not an integer, and the tensor holds integers.
    Convert it first with .float().
expected target dtype to be Long|expected scalar type Long|scalar types: Long, Int
    Class numbers and indices must be integers.
    Convert them with .long().
expected scalar type (?P<a>\w+) but found (?P<b>\w+)
    The operation needs {a} and was given {b}.
    Convert the tensor with .to(dtype).
on the same device|not on the expected device
    The tensors of one operation are on different devices.
    Move them to one device with .to(device) before this line.
Torch not compiled with CUDA|Could not run '.*' with arguments from|Found no NVIDIA|No CUDA GPUs
    PyTorch cannot use that device here.
    Ask torch.cuda.is_available() first, or leave the device out and choose it on the page.
Can't call numpy\(\) on Tensor that requires grad
    NumPy records no graph, so the gradient would stop here.
    If it may stop, write detach().numpy().
only one element tensors can be converted|elements cannot be converted to Scalar
    The tensor has several elements. Only a tensor with one becomes a Python number.
    Reduce it first, or use tolist().
Boolean value of Tensor with more than one value
    A tensor of several elements is neither true nor false.
    Use .all() or .any(). A layer is made first and called after: nn.ReLU()(x).
Target (?P<a>-?\d+) is out of bounds
    There is no class {a}. Classes count from 0.
    The input needs one column for each class.
index out of range in self
    An index is not below num_embeddings, the number of rows of the table.
    Indices count from 0.
index (?P<a>-?\d+) is out of bounds for dimension (?P<d>\d+) with size (?P<n>\d+)
    Dimension {d} has size {n}, so there is no index {a}.
    Indices count from 0.
too many indices for tensor of dimension (?P<n>\d+)
    There are more indices than dimensions. Dimensions of the tensor: {n}.
    Print its shape before this line.
Dimension out of range \(expected to be in range of (?P<range>\[.*?\]), but got (?P<d>-?\d+)\)
    There is no dimension {d}. Possible here: {range}; negative ones count from the end.
    Check dim.
(list|tuple|string) index out of range
    There are fewer elements than the index asks for.
    Indices count from 0.
all elements of input should be between 0 and 1
    binary_cross_entropy takes probabilities.
    Use binary_cross_entropy_with_logits for raw scores.
matrix is singular
    The matrix has no inverse.
    Check its determinant, or use torch.linalg.pinv.
not positive-definite
    Cholesky needs a symmetric matrix with positive eigenvalues.
    A @ A.T plus a little of the identity is one.
expected sequence of length
    The rows of the nested list differ in length.
    Give every row as many numbers.
invalid data type 'str'
    A tensor holds numbers, not text.
    Turn the text into numbers first.
negative dimension
    A size is negative.
    Sizes are 0 or more.
iteration over a 0-d tensor|len\(\) of a 0-d tensor
    A scalar tensor has no elements to go over.
    Use item(), or a tensor with a dimension.
values to unpack
    The names on the left of = and the values on the right differ in number.
    Give each value a name, or take what you need by index.
optimizer got an empty parameter list
    There is nothing to optimize: the list of parameters is empty.
    A module finds layers that are its attributes; put a list of layers into nn.ModuleList.
params argument given to the optimizer
    An optimizer takes a list of tensors.
    Write [x], or model.parameters().
can't optimize a non-leaf Tensor
    An optimizer updates leaves. This tensor is the result of an operation.
    Give it the leaf that the tensor was made from.
Invalid [\w ]+: (?P<value>\S+)
    The optimizer does not accept {value}.
    A learning rate is 0 or more, a beta is below 1.
is not an Optimizer
    A learning rate scheduler wraps an optimizer.
    Give it the optimizer first.
before Module\.__init__\(\) call
    The module was not set up when its first layer was assigned.
    Begin __init__ with super().__init__().
missing the required \"forward\" function
    The module has no forward().
    Define forward(self, x). Check its spelling and indentation.
embed_dim must be divisible by num_heads
    Every head gets the same share of embed_dim.
    Choose num_heads that divides it.
cannot access local variable '(?P<name>\w+)'
    {name} is used before its function gives it a value.
    Assign it earlier, or pass it as an argument.
missing \d+ required (keyword-only |positional )?arguments?: (?P<names>.*)
    The call leaves out {names}.
    Add what is missing.
got an unexpected keyword argument '(?P<name>\w+)'
    The function takes no argument called {name}.
    Check its spelling.
takes (?P<a>.*?) positional arguments? but (?P<b>\d+) (was|were) given
    Arguments that the function takes: {a}. Given: {b}.
    A method counts self as well.
argument '(?P<name>\w+)' .*must be (?P<want>.*?), not (?P<got>\w+)
    The argument {name} must be {want}, and this is {got}.
    torch.tensor(...) makes a tensor of numbers.
unsupported operand type\(s\) for (?P<op>\S+): '(?P<a>.*?)' and '(?P<b>.*?)'
    {op} does not work between {a} and {b}.
    Make both sides tensors or numbers.
'(?P<name>\w+)' object is not callable
    The value before the brackets is of type {name}, not a function.
    Is an operator missing there, or was the name of a function reused?
'(?P<name>\w+)' object is not (iterable|subscriptable)
    A value of type {name} has no elements.
    Use a list, a range or a tensor.
[Nn]o module named '(?P<name>[\w.]+)'
    There is no module {name} here.
    torch, nn, F, optim, math and np are there without an import.
""")

_SYNTAX = _read(r"""
'(?P<bracket>.)' was never closed
    The bracket {bracket} on this line has no partner.
    Close it where the expression ends.
unmatched '(?P<bracket>.)'|closing parenthesis '(?P<other>.)' does not match
    A closing bracket has no partner.
    Remove it, or open one before it.
expected ':'
    A line that begins a block ends with a colon.
    Add : after for, while, if, else, def, class or with.
expected an indented block
    The line before begins a block, and nothing is indented under it.
    Indent the block by four spaces.
unexpected indent
    The line is indented, and the line before begins no block.
    Remove the spaces at its start.
unindent does not match
    The line's indentation fits none of the lines above.
    Indent every line of a block by the same number of spaces.
inconsistent use of tabs
    Tabs and spaces are mixed.
    Use four spaces for each level.
unterminated
    A string begins here and does not end.
    Close it with the quote that opened it.
forgot a comma
    Two values follow each other with nothing between them.
    Put a comma or an operator there.
meant '=='|cannot assign to|expression cannot contain assignment
    = gives a value to a name, and the left side is not one.
    To compare, write ==.
Missing parentheses in call to 'print'
    print is a function.
    Write print(...).
'(?P<word>\w+)' outside (?P<where>\w+)
    {word} stands outside a {where}.
    Indent it into the {where} it belongs to.
positional argument follows keyword argument
    An argument without a name follows one with a name.
    Put named arguments last.
invalid (non-printable )?character
    The line holds a character that Python does not know, such as a curly quote.
    Type it again as plain text.
invalid decimal literal
    A name cannot begin with a digit, and 3x is no product.
    Write 3 * x.
.*
    Python cannot read this line.
    Look for a missing bracket, comma, operator or colon here and one line above.
""")

_LIMITS = dict(
    _read("""
TimeLimit
    The program took longer than it may, so it was stopped. What it did until then is kept.
    Use fewer steps or smaller tensors. See whether a loop never ends.
Stopped
    The run was stopped before the program ended. What it did until then is kept.
    Run starts it again from the beginning.
MemoryLimit
    The program asked for more memory than it may use.
    Use smaller tensors. A list of losses that are still tensors keeps every graph; keep loss.item().
PassLimit
    A run keeps the loss of every backward pass, so their number is bounded. What it did until then is kept.
    Use fewer passes. Who runs the server can raise EXPLORER_TRAINING_PASSES.
Busy
    The server is busy, and there is a bound to how many runs may wait.
    Wait for a run of yours to end, or try again in a few seconds.
NoWalls
    A shared server runs programs behind Landlock and seccomp only, and this machine lacks one.
    The About page says which. Whoever runs the server can repair it, or start it with EXPLORER_MODE=local.
OutputLimit
    The program printed more than is kept.
    Print every hundredth step, or fewer elements.
Crash
    The process that ran the program ended without a Python error. Native code crashed.
    Only this run is lost. Smaller tensors or another operation may avoid it.
Refused
    The program was not run: it names something that programs here may not use.
    Remove it and run again.
""")
)

_TYPES = dict(
    _read("""
NoData
    MNIST is not on this server.
    Download it on the Digits page, or use the small digits: from explorer.datasets import digits.
DataError
    The files of MNIST cannot be used.
    The message says which and why; whoever runs the server can put it right.
MemoryError
    The program asked for more memory than it may use.
    Use smaller tensors. A list of losses that are still tensors keeps every graph; keep loss.item().
OutOfMemoryError
    The program asked for more memory than it may use.
    Use smaller tensors. A list of losses that are still tensors keeps every graph; keep loss.item().
ZeroDivisionError
    A Python number was divided by zero.
    Tensors give inf or nan instead of this error.
RecursionError
    A function called itself too many times.
    Give it a case that returns without a call.
KeyError
    The dictionary has no such key.
    Print its keys before this line.
IndexError
    An index is past the end.
    Indices count from 0.
AssertionError
    An assert did not hold.
    Print the values that it compares.
NotImplementedError
    PyTorch or the program has no implementation for this case.
    Try another operation.
FileNotFoundError
    There is no such file here.
    Make the values in the program.
PermissionError
    Programs here may not touch that.
    Make the values in the program.
KeyboardInterrupt
    The program was stopped.
    What it did until then is kept.
SystemExit
    The program ended itself.
    What it did until then is kept.
""")
)
