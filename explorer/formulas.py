"""The derivative rule of each backward node: what it sends along each ``next_functions`` slot.

``grad`` is the gradient that the node received, ``grads`` those of its several outputs, ``result`` what the forward
operation returned; all other names are arguments, spelled as in PyTorch's derivatives.yaml. The engine sums what is
sent to the shape of the receiver, so rules leave broadcasting out. Rules are written for real numbers (complex ones
conjugate the derivative), and those with ``dim`` for one dimension without ``keepdim``. A comment in a rule
says where it holds, or defines names after "where". Names may carry C++'s "torch::autograd::", as ``Node.name()`` does.
"""

import re


class Prose(str):
    """A rule in words, where no short closed form exists."""

    __slots__ = ()


_ELEMENTWISE_RULES: dict[str, dict[str, str]] = {
    # Arithmetic
    "AddBackward0": {"self": "grad", "other": "alpha * grad"},
    "AddBackward1": {"self": "grad"},
    "ConjBackward0": {"self": "grad.conj()"},
    "DivBackward1": {"self": "grad / other"},
    "MulBackward1": {"self": "grad * other"},
    "SubBackward1": {"self": "grad"},
    "AddcdivBackward0": {
        "self": "grad",
        "tensor1": "grad * value / tensor2",
        "tensor2": "-grad * value * tensor1 / tensor2**2",
    },
    "AddcmulBackward0": {"self": "grad", "tensor1": "grad * value * tensor2", "tensor2": "grad * value * tensor1"},
    "DivBackward0": {"self": "grad / other", "other": "-grad * self / other**2"},
    "FmodBackward0": {"self": "grad"},
    "LerpBackward0": {"self": "grad * (1 - weight)", "end": "grad * weight"},
    "LerpBackward1": {"self": "grad * (1 - weight)", "end": "grad * weight", "weight": "grad * (end - self)"},
    "MulBackward0": {"self": "grad * other", "other": "grad * self"},
    "NegBackward0": {"self": "-grad"},
    "PowBackward0": {"self": "grad * exponent * self ** (exponent - 1)"},
    "PowBackward1": {
        "self": "grad * exponent * self ** (exponent - 1)",
        "exponent": "grad * result * torch.log(self)",
    },
    "PowBackward2": {"exponent": "grad * result * math.log(self)"},
    "ReciprocalBackward0": {"self": "-grad * result**2"},
    "RemainderBackward0": {"self": "grad"},
    "RsqrtBackward0": {"self": "-grad * result**3 / 2"},
    "RsubBackward0": {"self": "-alpha * grad", "other": "grad"},
    "RsubBackward1": {"self": "-alpha * grad"},
    "SqrtBackward0": {"self": "grad / (2 * result)"},
    "SubBackward0": {"self": "grad", "other": "-alpha * grad"},
    # Exponentials, logarithms and special functions
    "DigammaBackward0": {"self": "grad * torch.polygamma(1, self)"},
    "ErfBackward0": {"self": "grad * 2 / math.sqrt(math.pi) * torch.exp(-(self**2))"},
    "ErfcBackward0": {"self": "-grad * 2 / math.sqrt(math.pi) * torch.exp(-(self**2))"},
    "ErfinvBackward0": {"self": "grad * math.sqrt(math.pi) / 2 * torch.exp(result**2)"},
    "Exp2Backward0": {"self": "grad * result * math.log(2)"},
    "ExpBackward0": {"self": "grad * result"},
    "Expm1Backward0": {"self": "grad * (result + 1)"},
    "LgammaBackward0": {"self": "grad * torch.digamma(self)"},
    "Log10Backward0": {"self": "grad / (self * math.log(10))"},
    "Log1PBackward0": {"self": "grad / (self + 1)"},
    "Log2Backward0": {"self": "grad / (self * math.log(2))"},
    "LogBackward0": {"self": "grad / self"},
    "LogaddexpBackward0": {
        "self": "grad * torch.sigmoid(self - other)",
        "other": "grad * torch.sigmoid(other - self)",
    },
    "LogitBackward0": {"self": "grad / (self * (1 - self))"},
    "XlogyBackward0": {"self": "grad * torch.log(other)", "other": "grad * self / other"},
    # Trigonometric and hyperbolic functions
    "AcosBackward0": {"self": "-grad / torch.sqrt(1 - self**2)"},
    "AcoshBackward0": {"self": "grad / torch.sqrt(self**2 - 1)"},
    "AsinBackward0": {"self": "grad / torch.sqrt(1 - self**2)"},
    "AsinhBackward0": {"self": "grad / torch.sqrt(self**2 + 1)"},
    "Atan2Backward0": {
        "self": "grad * other / (self**2 + other**2)",
        "other": "-grad * self / (self**2 + other**2)",
    },
    "AtanBackward0": {"self": "grad / (1 + self**2)"},
    "AtanhBackward0": {"self": "grad / (1 - self**2)"},
    "CosBackward0": {"self": "-grad * torch.sin(self)"},
    "CoshBackward0": {"self": "grad * torch.sinh(self)"},
    "HypotBackward0": {"self": "grad * self / result", "other": "grad * other / result"},
    "SinBackward0": {"self": "grad * torch.cos(self)"},
    "SinhBackward0": {"self": "grad * torch.cosh(self)"},
    "TanBackward0": {"self": "grad * (1 + result**2)"},
    "TanhBackward0": {"self": "grad * (1 - result**2)"},
    # Activations
    "CeluBackward0": {"self": "torch.where(self > 0, grad, grad * torch.exp(self / alpha))"},
    "EluBackward0": {"self": "torch.where(self > 0, grad, grad * alpha * torch.exp(self))"},
    "GeluBackward0": {
        "self": "grad * ((1 + torch.erf(self / math.sqrt(2))) / 2"
        " + self * torch.exp(-(self**2) / 2) / math.sqrt(2 * math.pi))  # approximate='none'"
    },
    "HardshrinkBackward0": {"self": "grad * (self.abs() > lambd)"},
    "HardsigmoidBackward0": {"self": "grad * (self.abs() < 3) / 6"},
    "HardswishBackward0": {"self": "torch.where(self.abs() < 3, grad * (2 * self + 3) / 6, grad * (self >= 3))"},
    "HardtanhBackward0": {"self": "grad * ((self > min_val) & (self < max_val))"},
    "LeakyReluBackward0": {"self": "torch.where(self > 0, grad, grad * negative_slope)"},
    "LogSigmoidBackward0": {"self": "grad * torch.sigmoid(-self)"},
    "MishBackward0": {
        "self": "grad * (t + self * torch.sigmoid(self) * (1 - t**2))  # where t = torch.tanh(F.softplus(self))"
    },
    "PreluKernelBackward0": {
        "self": "torch.where(self > 0, grad, grad * weight)",
        "weight": "grad * self * (self <= 0)",
    },
    "ReluBackward0": {"self": "grad * (result > 0)"},
    "SigmoidBackward0": {"self": "grad * result * (1 - result)"},
    "SiluBackward0": {"self": "grad * torch.sigmoid(self) * (1 + self * torch.sigmoid(-self))"},
    "SoftplusBackward0": {"self": "grad * torch.sigmoid(beta * self)"},
    "SoftshrinkBackward0": {"self": "grad * (self.abs() > lambd)"},
    "ThresholdBackward0": {"self": "grad * (self > threshold)"},
    # Choices, kinks and steps
    "AbsBackward0": {"self": "grad * self.sgn()"},
    "CeilBackward0": {"self": "torch.zeros_like(grad)"},
    "ClampBackward0": {
        "self": "grad * ((self >= min) & (self <= max))",
        "min": "grad * (self < min)",
        "max": "grad * (self > max)",
    },
    "ClampBackward1": {"self": "grad * ((self >= min) & (self <= max))  # a bound that was given"},
    "ClampMaxBackward0": {"self": "grad * (self <= max)"},
    "ClampMinBackward0": {"self": "grad * (self >= min)"},
    "FloorBackward0": {"self": "torch.zeros_like(grad)"},
    "FracBackward0": {"self": "grad"},
    "MaskedFillBackward0": {"self": "grad.masked_fill(mask, 0)"},
    "MaximumBackward0": {
        "self": "grad * (self > other) + grad / 2 * (self == other)",
        "other": "grad * (self < other) + grad / 2 * (self == other)",
    },
    "MinimumBackward0": {
        "self": "grad * (self < other) + grad / 2 * (self == other)",
        "other": "grad * (self > other) + grad / 2 * (self == other)",
    },
    "NanToNumBackward0": {"self": "grad * torch.isfinite(self)"},
    "RoundBackward0": {"self": "torch.zeros_like(grad)"},
    "SgnBackward0": {"self": "torch.zeros_like(grad)"},
    "SignBackward0": {"self": "torch.zeros_like(grad)"},
    "TruncBackward0": {"self": "torch.zeros_like(grad)"},
    "WhereBackward0": {"self": "torch.where(condition, grad, 0)", "other": "torch.where(condition, 0, grad)"},
    # Copies, views and shapes
    "AliasBackward0": {"self": "grad"},
    "CloneBackward0": {"self": "grad"},
    "CopyBackwards": {"self": "torch.zeros_like(grad)", "src": "grad"},
    "ToCopyBackward0": {"self": "grad.to(self)"},
    # Indexing
    "FillBackward0": {"self": "torch.zeros_like(grad)"},
    "ZeroBackward0": {"self": "torch.zeros_like(grad)"},
    # Layers
    "NativeDropoutBackward0": {"input": "grad * result1 / (1 - p)  # result1 is the mask"},
    # Backward nodes that create_graph=True makes
    "SigmoidBackwardBackward0": {
        "grad_output": "grad * output * (1 - output)",
        "output": "grad * grad_output * (1 - 2 * output)",
    },
    "TanhBackwardBackward0": {
        "grad_output": "grad * (1 - output**2)",
        "output": "-2 * grad * grad_output * output",
    },
    "ThresholdBackwardBackward0": {"grad_output": "grad * (self > threshold)", "self": "torch.zeros_like(self)"},
}

_ATTENTION = {
    "query": Prose("gS @ key * scale, gS = P * (gP - sum(gP * P)), gP = grad @ value.mT, P the attention weights"),
    "key": Prose("gS.mT @ query * scale"),
    "value": Prose("P.mT @ grad"),
}
_BATCH_NORM = {
    "input": Prose("rstd * (g - mean(g) - x_hat * mean(g * x_hat)) a channel, g = grad * weight, x_hat normalized"),
    "weight": Prose("the sum of grad * x_hat a channel"),
    "bias": Prose("the sum of grad a channel"),
}

_OTHER_RULES: dict[str, dict[str, str]] = {
    # Activations
    "GluBackward0": {
        "self": "torch.cat([grad * torch.sigmoid(b), grad * a * torch.sigmoid(b) * torch.sigmoid(-b)], dim)"
        "  # where a, b = self.chunk(2, dim)"
    },
    "LogSoftmaxBackward0": {"self": "grad - torch.exp(result) * grad.sum(dim, keepdim=True)"},
    "SafeSoftmaxBackward0": {"self": "result * (grad - (grad * result).sum(dim, keepdim=True))"},
    "SoftmaxBackward0": {"self": "result * (grad - (grad * result).sum(dim, keepdim=True))"},
    # Choices, kinks and steps
    "MaskedFillBackward1": {"self": "grad.masked_fill(mask, 0)", "value": "(grad * mask).sum()"},
    # Reductions
    "AmaxBackward0": {
        "self": "grad.unsqueeze(dim) * top / top.sum(dim, keepdim=True)  # where top = self == result.unsqueeze(dim)"
    },
    "AminBackward0": {
        "self": "grad.unsqueeze(dim) * top / top.sum(dim, keepdim=True)  # where top = self == result.unsqueeze(dim)"
    },
    "LinalgVectorNormBackward0": {"self": "grad * self / result  # ord 2 over all elements; 0 where result is 0"},
    "LogsumexpBackward0": {"self": "grad.unsqueeze(dim) * torch.softmax(self, dim)"},
    "KthvalueBackward0": {"self": "torch.zeros_like(self).scatter(dim, indices.unsqueeze(dim), grad.unsqueeze(dim))"},
    "MaxBackward0": {
        "self": "torch.zeros_like(self).scatter(dim, indices.unsqueeze(dim), grad.unsqueeze(dim))",
    },
    "MaxBackward1": {"self": "grad * (self == result) / (self == result).sum()"},
    "MeanBackward0": {"self": "grad.expand_as(self) / self.numel()"},
    "MeanBackward1": {"self": "grad.unsqueeze(dim).expand_as(self) / self.shape[dim]"},
    "MedianBackward0": {"self": "grad * (self == result) / (self == result).sum()"},
    "MedianBackward1": {"self": "torch.zeros_like(self).scatter(dim, indices.unsqueeze(dim), grad.unsqueeze(dim))"},
    "MinBackward0": {
        "self": "torch.zeros_like(self).scatter(dim, indices.unsqueeze(dim), grad.unsqueeze(dim))",
    },
    "MinBackward1": {"self": "grad * (self == result) / (self == result).sum()"},
    "ModeBackward0": {"self": "torch.zeros_like(self).scatter(dim, indices.unsqueeze(dim), grad.unsqueeze(dim))"},
    "NansumBackward0": {"self": "grad * ~torch.isnan(self)"},
    "NormBackward1": {"self": "grad.unsqueeze(dim) * self / result.unsqueeze(dim)  # p 2; 0 where result is 0"},
    "ProdBackward0": {"self": "grad * result / self  # where self is not 0"},
    "ProdBackward1": {"self": "grad.unsqueeze(dim) * result.unsqueeze(dim) / self  # where self is not 0"},
    "StdBackward0": {
        "self": "grad * (self - self.mean()) / (result * (self.numel() - correction))  # over all elements"
    },
    "StdMeanBackward0": {"self": Prose("the sum of the rules of std and mean")},
    "SumBackward0": {"self": "grad.expand_as(self)"},
    "SumBackward1": {"self": "grad.unsqueeze(dim).expand_as(self)"},
    "TraceBackward0": {"self": "grad * torch.eye(*self.shape)"},
    "VarBackward0": {
        "self": "grad * 2 * (self - self.mean()) / (self.numel() - correction)  # over all elements",
    },
    "VarMeanBackward0": {"self": Prose("the sum of the rules of var and mean")},
    # Running totals and order
    "CummaxBackward0": {"self": "torch.zeros_like(self).scatter_add(dim, indices, grad)"},
    "CumminBackward0": {"self": "torch.zeros_like(self).scatter_add(dim, indices, grad)"},
    "CumprodBackward0": {"self": "(grad * result).flip(dim).cumsum(dim).flip(dim) / self  # where self is not 0"},
    "CumsumBackward0": {"self": "grad.flip(dim).cumsum(dim).flip(dim)"},
    "SortBackward0": {"self": "torch.zeros_like(self).scatter(dim, indices, grad)"},
    "TopkBackward0": {"self": "torch.zeros_like(self).scatter(dim, indices, grad)"},
    # Copies, views and shapes
    "AsStridedBackward0": {"self": Prose("grad added back at the memory positions it was read from")},
    "CatBackward0": {"tensors": "grad.split([t.shape[dim] for t in tensors], dim)[i]  # i is the slot"},
    "ComplexBackward0": {"real": "grad.real", "imag": "grad.imag"},
    "ConstantPadNdBackward0": {"self": "F.pad(grad, [-p for p in pad])"},
    "DiagEmbedBackward0": {"self": "grad.diagonal(dim1=-2, dim2=-1)"},
    "DiagonalBackward0": {"self": "torch.zeros_like(self).diagonal_scatter(grad)"},
    "ExpandBackward0": {"self": "grad.sum_to_size(self.shape)"},
    "FlipBackward0": {"self": "grad.flip(dims)"},
    "PermuteBackward0": {"self": "grad.permute([dims.index(d) for d in range(len(dims))])"},
    "PixelShuffleBackward0": {"self": "F.pixel_unshuffle(grad, upscale_factor)"},
    "PixelUnshuffleBackward0": {"self": "F.pixel_shuffle(grad, downscale_factor)"},
    "RepeatBackward0": {"self": Prose("the sum of grad over the repeats")},
    "ReshapeAliasBackward0": {"self": "grad.reshape(self.shape)"},
    "RollBackward0": {"self": "grad.roll(-shifts, dims)"},
    "SliceBackward0": {"self": "torch.zeros_like(self).slice_scatter(grad, dim, start, end, step)"},
    "SplitBackward0": {"self": "torch.cat(grads, dim)"},
    "SplitWithSizesBackward0": {"self": "torch.cat(grads, dim)"},
    "SqueezeBackward0": {"self": "grad.reshape(self.shape)"},
    "SqueezeBackward1": {"self": "grad.unsqueeze(dim)"},
    "StackBackward0": {"tensors": "grad.unbind(dim)[i]  # i is the slot"},
    "TBackward0": {"self": "grad.T"},
    "TransposeBackward0": {"self": "grad.transpose(dim0, dim1)"},
    "TransposeBackward1": {"self": "grad.transpose(dim0, dim1)"},
    "TrilBackward0": {"self": "grad.tril(diagonal)"},
    "TriuBackward0": {"self": "grad.triu(diagonal)"},
    "UnbindBackward0": {"self": "torch.stack(grads, dim)"},
    "UnfoldBackward0": {"self": Prose("each element gets the sum of grad over the windows that hold it")},
    "UnsafeViewBackward0": {"self": "grad.reshape(self.shape)"},
    "UnsafeSplitBackward0": {"self": "torch.cat(grads, dim)"},
    "UnsqueezeBackward0": {"self": "grad.squeeze(dim)"},
    "UnsqueezeBackward1": {"self": "grad.squeeze(dim)"},
    "ViewAsComplexBackward0": {"self": "torch.view_as_real(grad)"},
    "ViewAsRealBackward0": {"self": "torch.view_as_complex(grad)"},
    "ViewBackward0": {"self": "grad.reshape(self.shape)"},
    # Indexing
    "EmbeddingBackward0": {
        "weight": "torch.zeros_like(weight).index_add(0, indices.flatten(), grad.flatten(0, -2))",
    },
    "EmbeddingBagBackward0": {
        "weight": Prose("each row that a bag used gets the bag's grad, over its size for a mean"),
        "per_sample_weights": Prose("grad's dot product with the row of weight"),
    },
    "GatherBackward0": {"self": "torch.zeros_like(self).scatter_add(dim, index, grad)"},
    "IndexAddBackward0": {"self": "grad", "source": "alpha * grad.index_select(dim, index)"},
    "IndexBackward0": {"self": "torch.zeros_like(self).index_put(indices, grad, accumulate=True)"},
    "IndexCopyBackward0": {"self": "grad.index_fill(dim, index, 0)", "source": "grad.index_select(dim, index)"},
    "IndexFillBackward0": {"self": "grad.index_fill(dim, index, 0)"},
    "IndexPutBackward0": {
        "self": "grad.index_put(indices, torch.zeros_like(values))  # accumulate=False",
        "values": "grad[indices]",
    },
    "IndexPutImplBackward0": {
        "self": "grad.index_put(indices, torch.zeros_like(values))  # accumulate=False",
        "values": "grad[indices]",
    },
    "IndexSelectBackward0": {"self": "torch.zeros_like(self).index_add(dim, index, grad)"},
    "MaskedScatterBackward0": {"self": "grad.masked_fill(mask, 0)", "source": Prose("grad where mask holds, in order")},
    "MaskedSelectBackward0": {"self": "torch.zeros_like(self).masked_scatter(mask, grad)"},
    "ScatterAddBackward0": {"self": "grad", "src": "grad.gather(dim, index)"},
    "ScatterBackward0": {"self": "grad.scatter(dim, index, 0)", "src": "grad.gather(dim, index)"},
    "SelectBackward0": {"self": "torch.zeros_like(self).select_scatter(grad, dim, index)"},
    "TakeBackward0": {"self": "torch.zeros_like(self).put(index, grad, accumulate=True)"},
    # Matrix products
    "AddbmmBackward0": {
        "self": "beta * grad",
        "batch1": "alpha * grad @ batch2.mT",
        "batch2": "alpha * batch1.mT @ grad",
    },
    "AddmmBackward0": {"self": "beta * grad", "mat1": "alpha * grad @ mat2.T", "mat2": "alpha * mat1.T @ grad"},
    "AddmvBackward0": {
        "self": "beta * grad",
        "mat": "alpha * torch.outer(grad, vec)",
        "vec": "alpha * mat.T @ grad",
    },
    "AddrBackward0": {"self": "beta * grad", "vec1": "alpha * grad @ vec2", "vec2": "alpha * grad.T @ vec1"},
    "BaddbmmBackward0": {
        "self": "beta * grad",
        "batch1": "alpha * grad @ batch2.mT",
        "batch2": "alpha * batch1.mT @ grad",
    },
    "BmmBackward0": {"self": "grad @ mat2.mT", "mat2": "self.mT @ grad"},
    "DotBackward0": {"self": "grad * tensor", "tensor": "grad * self"},
    "LinearBackward0": {
        "input": Prose("grad @ weight"),
        "weight": Prose("grad.T @ input, summed over the batch"),
        "bias": Prose("grad summed over the batch"),
    },
    "MmBackward0": {"self": "grad @ mat2.T", "mat2": "self.T @ grad"},
    "MvBackward0": {"self": "torch.outer(grad, vec)", "vec": "self.T @ grad"},
    # Linear algebra
    "CdistBackward0": {
        "x1": Prose("the sum over x2 of grad * (x1 - x2) / distance, for p 2"),
        "x2": Prose("the same with x1 and x2 swapped"),
    },
    "FftC2CBackward0": {"self": Prose("the inverse transform of grad, unnormalized")},
    "FftR2CBackward0": {"self": Prose("the real part of the inverse transform of grad, unnormalized")},
    "LinalgCholeskyExBackward0": {"self": Prose("A's symmetric gradient, from triangular solves with L")},
    "LinalgCrossBackward0": {
        "self": "torch.linalg.cross(other, grad, dim=dim)",
        "other": "torch.linalg.cross(grad, self, dim=dim)",
    },
    "LinalgDetBackward0": {"A": "grad * result * torch.linalg.inv(A).mT"},
    "LinalgEighBackward0": {"A": Prose("V (diag(gL) + (V.mH gV) / (Lj - Li)) V.mH; undefined for equal eigenvalues")},
    "LinalgInvExBackward0": {"A": "-result.mT @ grad @ result.mT"},
    "LinalgMatrixExpBackward0": {"self": Prose("the derivative of exp at self.T in the direction grad")},
    "LinalgQrBackward0": {"A": Prose("from triangular solves with R")},
    "LinalgSlogdetBackward0": {"A": "grad * torch.linalg.inv(A).mT  # grad of logabsdet"},
    "LinalgSolveExBackward0": {
        "A": "-torch.linalg.solve(A.mT, grad) @ result.mT  # B a matrix",
        "B": "torch.linalg.solve(A.mT, grad)",
    },
    "LinalgSvdBackward0": {"A": Prose("from U, S and Vh; undefined for equal singular values")},
    # Losses, as the mean over the batch
    "BinaryCrossEntropyBackward0": {
        "self": "grad * (self - target) / (self * (1 - self)) / self.numel()",
        "target": "-grad * torch.logit(self) / self.numel()",
    },
    "BinaryCrossEntropyWithLogitsBackward0": {
        "self": "grad * (torch.sigmoid(self) - target) / self.numel()",
        "target": "-grad * self / self.numel()",
    },
    "HuberLossBackward0": {
        "self": "grad * (self - target).clamp(-delta, delta) / self.numel()",
        "target": "-grad * (self - target).clamp(-delta, delta) / self.numel()",
    },
    "MseLossBackward0": {
        "self": "grad * 2 * (self - target) / self.numel()",
        "target": "-grad * 2 * (self - target) / self.numel()",
    },
    "NllLoss2DBackward0": {"self": Prose("-grad / number of pixels at each pixel's target class, 0 elsewhere")},
    "NllLossBackward0": {"self": "-grad * F.one_hot(target, self.shape[1]) / len(target)"},
    "SmoothL1LossBackward0": {
        "self": "grad * ((self - target) / beta).clamp(-1, 1) / self.numel()",
        "target": "-grad * ((self - target) / beta).clamp(-1, 1) / self.numel()",
    },
    "SoftMarginLossBackward0": {"self": "-grad * target * torch.sigmoid(-target * self) / self.numel()"},
    # Layers
    "AdaptiveAvgPool2DBackward0": {"self": Prose("grad / window size, spread over each window")},
    "AvgPool2DBackward0": {"self": Prose("grad / window size, added over each window")},
    "ConvolutionBackward0": {
        "input": "F.conv_transpose2d(grad, weight)  # 2-D, stride 1, padding 0",
        "weight": "F.conv2d(input.transpose(0, 1), grad.transpose(0, 1)).transpose(0, 1)",
        "bias": "grad.sum((0, 2, 3))",
    },
    "Im2ColBackward0": {"self": Prose("each pixel gets the sum of grad over the windows that hold it")},
    "Col2ImBackward0": {"self": Prose("the windows of grad")},
    "CudnnBatchNormBackward0": _BATCH_NORM,
    "MaxPool2DWithIndicesBackward0": {"self": Prose("grad to the maximum of each window, 0 elsewhere")},
    "NativeBatchNormBackward0": _BATCH_NORM,
    "NativeGroupNormBackward0": {
        "input": Prose("rstd * (g - mean(g) - x_hat * mean(g * x_hat)) a group, g = grad * weight, x_hat normalized"),
        "weight": Prose("the sum of grad * x_hat a channel"),
        "bias": Prose("the sum of grad a channel"),
    },
    "NativeLayerNormBackward0": {
        "input": "result2 * (g - g.mean(-1, True) - x * (g * x).mean(-1, True))"
        "  # where g = grad * weight; x = (input - result1) * result2",
        "weight": "(grad * (input - result1) * result2).sum(0)  # result1 is the mean, result2 is 1 / std",
        "bias": "grad.sum(0)",
    },
    "ScaledDotProductEfficientAttentionBackward0": {**_ATTENTION, "attn_bias": Prose("gS")},
    "ScaledDotProductFlashAttentionBackward0": _ATTENTION,
    "ScaledDotProductFlashAttentionForCpuBackward0": _ATTENTION,
    "UpsampleBilinear2DBackward0": {"self": Prose("each grad shared among the pixels it was mixed from")},
    "UpsampleNearest2DBackward0": {"self": Prose("each pixel gets the sum of grad over its copies")},
    # Backward nodes that create_graph=True makes
    "LogSoftmaxBackwardDataBackward0": {
        "grad_output": "grad - (grad * torch.exp(output)).sum(dim, keepdim=True)",
        "output": "-grad * torch.exp(output) * grad_output.sum(dim, keepdim=True)",
    },
    "SelectBackwardBackward0": {"grad_output": "grad.select(dim, index)"},
    "SliceBackwardBackward0": {"grad_output": "grad[start:end:step]  # along dim"},
    "SoftmaxBackwardDataBackward0": {
        "grad_output": "output * (grad - (grad * output).sum(dim, keepdim=True))",
        "output": "grad * (grad_output - (grad_output * output).sum(dim, keepdim=True))"
        " - grad_output * (grad * output).sum(dim, keepdim=True)",
    },
}

RULES = _ELEMENTWISE_RULES | _OTHER_RULES

ELEMENTWISE = frozenset(_ELEMENTWISE_RULES)
"""Nodes whose output element i depends on element i of each input only, after broadcasting."""

# Nodes whose slots follow from the program, or that have none.
WHOLE_RULES: dict[str, str] = {
    "AccumulateGrad": ".grad += grad",
    "CopySlices": "base: grad, the overwritten part sent through the write's own rule;  the rest: what that rule gives",
    "CudnnRnnBackward0": "input, weights, hx: back through every time step at once, in cuDNN",
    "MkldnnRnnLayerBackward0": "input, weights, hx: back through every time step at once, in oneDNN",
    "UndefinedGradBackward": "sends no gradient",
}


def find_formula(name: str) -> str | None:
    """The rule of a ``grad_fn`` name, "self: grad * other;  other: grad * self" for MulBackward0; None if unknown."""
    name = name.rpartition("::")[2]
    if name in WHOLE_RULES:
        return WHOLE_RULES[name]
    if name not in RULES:
        return None
    parts = (f"{argument}: {rule}" for argument, rule in RULES[name].items())
    return ";  ".join(re.sub("  # (.*)", r"  (\1)", part) for part in parts)


def find_slots(name: str) -> list[str]:
    """The argument of each ``next_functions`` slot; one name stands for all slots of a list (``tensors`` of cat)."""
    return list(RULES.get(name.rpartition("::")[2], ()))
