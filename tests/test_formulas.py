"""The rule of each node equals what torch.autograd does."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from explorer.formulas import ELEMENTWISE, RULES, WHOLE_RULES, Prose, find_formula, find_slots

random = torch.Generator().manual_seed(0)
aten = torch.ops.aten


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64)


def between(low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=random, dtype=torch.float64)


def tied(*shape: int) -> torch.Tensor:
    """Small integers, so that kinks and ties are met."""
    return torch.randint(-2, 3, shape, generator=random).to(torch.float64)


def unary(op: Callable, self: torch.Tensor | None = None, **constants: Any) -> tuple[Callable, dict[str, Any]]:
    return lambda self, *_: op(self, **constants), {"self": normal(3, 4) if self is None else self, **constants}


def case(op: Callable, **arguments: Any) -> tuple[Callable, dict[str, Any]]:
    return op, arguments


POSITIVE, UNIT = between(0.5, 3, 3, 4), between(0.1, 0.9, 3, 4)
MASK = torch.tensor([[True, False, True, False]] * 3)
INDEX = torch.tensor([2, 0, 2])

# The forward operation that makes each node; its arguments carry the names that the rule uses.
CASES: dict[str, tuple[Callable, dict[str, Any]]] = {
    "AbsBackward0": unary(torch.abs, tied(3, 4)),
    "AcosBackward0": unary(torch.acos, UNIT),
    "AcoshBackward0": unary(torch.acosh, 1 + POSITIVE),
    "AdaptiveAvgPool2DBackward0": unary(lambda x: F.adaptive_avg_pool2d(x, 2), normal(1, 1, 4, 4)),
    "AddBackward0": case(
        lambda self, other, alpha: torch.add(self, other, alpha=alpha), self=normal(3, 1), other=normal(4), alpha=2
    ),
    "AddBackward1": unary(lambda x: aten.add.Scalar(x, 2.0)),
    "AddbmmBackward0": case(
        lambda self, batch1, batch2, beta, alpha: torch.addbmm(self, batch1, batch2, beta=beta, alpha=alpha),
        self=normal(3, 5),
        batch1=normal(2, 3, 4),
        batch2=normal(2, 4, 5),
        beta=3,
        alpha=2,
    ),
    "AddcdivBackward0": case(
        lambda self, tensor1, tensor2, value: torch.addcdiv(self, tensor1, tensor2, value=value),
        self=normal(3, 4),
        tensor1=normal(4),
        tensor2=POSITIVE,
        value=2,
    ),
    "AddcmulBackward0": case(
        lambda self, tensor1, tensor2, value: torch.addcmul(self, tensor1, tensor2, value=value),
        self=normal(3, 4),
        tensor1=normal(4),
        tensor2=POSITIVE,
        value=2,
    ),
    "AddmmBackward0": case(
        lambda self, mat1, mat2, beta, alpha: torch.addmm(self, mat1, mat2, beta=beta, alpha=alpha),
        self=normal(5),
        mat1=normal(3, 4),
        mat2=normal(4, 5),
        beta=3,
        alpha=2,
    ),
    "AddmvBackward0": case(
        lambda self, mat, vec, beta, alpha: torch.addmv(self, mat, vec, beta=beta, alpha=alpha),
        self=normal(3),
        mat=normal(3, 4),
        vec=normal(4),
        beta=3,
        alpha=2,
    ),
    "AddrBackward0": case(
        lambda self, vec1, vec2, beta, alpha: torch.addr(self, vec1, vec2, beta=beta, alpha=alpha),
        self=normal(3, 4),
        vec1=normal(3),
        vec2=normal(4),
        beta=3,
        alpha=2,
    ),
    "AliasBackward0": unary(aten.alias),
    "AmaxBackward0": unary(torch.amax, tied(3, 4), dim=1),
    "AminBackward0": unary(torch.amin, tied(3, 4), dim=1),
    "AsStridedBackward0": unary(lambda x: x.as_strided((2, 2), (1, 1))),
    "AsinBackward0": unary(torch.asin, UNIT),
    "AsinhBackward0": unary(torch.asinh),
    "Atan2Backward0": case(torch.atan2, self=normal(3, 1), other=normal(4)),
    "AtanBackward0": unary(torch.atan),
    "AtanhBackward0": unary(torch.atanh, UNIT),
    "AvgPool2DBackward0": unary(lambda x: F.avg_pool2d(x, 2), normal(1, 1, 4, 4)),
    "BaddbmmBackward0": case(
        lambda self, batch1, batch2, beta, alpha: torch.baddbmm(self, batch1, batch2, beta=beta, alpha=alpha),
        self=normal(2, 3, 5),
        batch1=normal(2, 3, 4),
        batch2=normal(2, 4, 5),
        beta=3,
        alpha=2,
    ),
    "BinaryCrossEntropyBackward0": case(
        lambda self, target: F.binary_cross_entropy(self, target), self=UNIT, target=between(0, 1, 3, 4)
    ),
    "BinaryCrossEntropyWithLogitsBackward0": case(
        lambda self, target: F.binary_cross_entropy_with_logits(self, target),
        self=normal(3, 4),
        target=between(0, 1, 3, 4),
    ),
    "BmmBackward0": case(torch.bmm, self=normal(2, 3, 4), mat2=normal(2, 4, 5)),
    "CatBackward0": case(lambda tensors, dim: torch.cat(tensors, dim), tensors=[normal(2, 3), normal(2, 1)], dim=1),
    "CdistBackward0": case(torch.cdist, x1=normal(3, 2), x2=normal(4, 2)),
    "CeilBackward0": unary(torch.ceil),
    "CeluBackward0": unary(F.celu, alpha=1.5),
    "ClampBackward0": case(torch.clamp, self=tied(3, 4), min=-tied(3, 4).abs(), max=tied(3, 4).abs() + 1),
    "ClampBackward1": unary(torch.clamp, tied(3, 4), min=-1, max=1),
    "ClampMaxBackward0": unary(torch.clamp_max, tied(3, 4), max=1),
    "ClampMinBackward0": unary(torch.clamp_min, tied(3, 4), min=-1),
    "CloneBackward0": unary(torch.clone),
    "Col2ImBackward0": unary(lambda x: F.fold(x, (3, 3), 2), normal(1, 4, 4)),
    "ComplexBackward0": case(torch.complex, real=normal(3), imag=normal(3)),
    "ConjBackward0": unary(torch.conj, torch.complex(normal(3), normal(3))),
    "ConstantPadNdBackward0": unary(F.pad, pad=[1, 2, 0, 1]),
    "ConvolutionBackward0": case(F.conv2d, input=normal(2, 3, 5, 5), weight=normal(4, 3, 2, 2), bias=normal(4)),
    "CopyBackwards": case(lambda self, src: self.copy_(src), self=normal(3, 4), src=normal(4)),
    "CosBackward0": unary(torch.cos),
    "CoshBackward0": unary(torch.cosh),
    "CummaxBackward0": unary(torch.cummax, dim=1),
    "CumminBackward0": unary(torch.cummin, dim=1),
    "CumprodBackward0": unary(torch.cumprod, dim=1),
    "CumsumBackward0": unary(torch.cumsum, dim=1),
    "DiagEmbedBackward0": unary(torch.diag_embed),
    "DiagonalBackward0": unary(torch.diagonal),
    "DigammaBackward0": unary(torch.digamma, POSITIVE),
    "DivBackward0": case(torch.div, self=normal(3, 1), other=between(0.5, 3, 4)),
    "DivBackward1": unary(lambda x, other: aten.div.Scalar(x, other), other=3.0),
    "DotBackward0": case(torch.dot, self=normal(4), tensor=normal(4)),
    "EluBackward0": unary(F.elu, alpha=1.5),
    "EmbeddingBackward0": case(
        lambda weight, indices: F.embedding(indices, weight), weight=normal(4, 3), indices=torch.tensor([[1, 3, 1]])
    ),
    "EmbeddingBagBackward0": case(
        lambda weight, per_sample_weights: F.embedding_bag(
            torch.tensor([0, 1]), weight, torch.tensor([0]), mode="sum", per_sample_weights=per_sample_weights
        ),
        weight=normal(3, 2),
        per_sample_weights=normal(2),
    ),
    "ErfBackward0": unary(torch.erf),
    "ErfcBackward0": unary(torch.erfc),
    "ErfinvBackward0": unary(torch.erfinv, UNIT),
    "Exp2Backward0": unary(torch.exp2),
    "ExpBackward0": unary(torch.exp),
    "ExpandBackward0": unary(lambda x: x.expand(2, 3, 4), normal(3, 1)),
    "Expm1Backward0": unary(torch.expm1),
    "FftC2CBackward0": unary(torch.fft.fft, torch.complex(normal(4), normal(4))),
    "FftR2CBackward0": unary(torch.fft.rfft, normal(4)),
    "FillBackward0": unary(lambda x: torch.fill(x, 2.0)),
    "FlipBackward0": unary(torch.flip, dims=(0, 1)),
    "FloorBackward0": unary(torch.floor),
    "FmodBackward0": unary(lambda x: torch.fmod(x, 0.7)),
    "FracBackward0": unary(torch.frac),
    "GatherBackward0": unary(torch.gather, normal(4), dim=0, index=INDEX),
    "GeluBackward0": unary(F.gelu),
    "GluBackward0": unary(F.glu, dim=1),
    "HardshrinkBackward0": unary(F.hardshrink, lambd=0.5),
    "HardsigmoidBackward0": unary(F.hardsigmoid, 3 * normal(3, 4)),
    "HardswishBackward0": unary(F.hardswish, torch.cat([2 * tied(3, 4), tied(3, 4) + 3.0])),
    "HardtanhBackward0": unary(F.hardtanh, tied(3, 4), min_val=-1, max_val=1),
    "HuberLossBackward0": case(
        lambda self, target, delta: F.huber_loss(self, target, delta=delta),
        self=2 * normal(3, 4),
        target=normal(3, 4),
        delta=0.7,
    ),
    "HypotBackward0": case(torch.hypot, self=normal(3, 4), other=POSITIVE),
    "Im2ColBackward0": unary(lambda x: F.unfold(x, 2), normal(1, 1, 3, 3)),
    "IndexAddBackward0": case(
        lambda self, source, dim, index, alpha: self.index_add(dim, index, source, alpha=alpha),
        self=normal(3, 4),
        source=normal(3, 4),
        dim=0,
        index=INDEX,
        alpha=2,
    ),
    "IndexBackward0": unary(lambda x, indices: x[indices], indices=(INDEX, INDEX)),
    "IndexCopyBackward0": case(
        lambda self, source, dim, index: self.index_copy(dim, index, source),
        self=normal(3, 4),
        source=normal(2, 4),
        dim=0,
        index=torch.tensor([2, 0]),
    ),
    "IndexFillBackward0": unary(lambda x, dim, index: x.index_fill(dim, index, 7.0), dim=0, index=INDEX),
    "IndexPutBackward0": case(
        lambda self, values, indices: self.index_put(indices, values),
        self=normal(3, 4),
        values=normal(2),
        indices=(torch.tensor([0, 2]), torch.tensor([1, 1])),
    ),
    "IndexPutImplBackward0": case(
        lambda self, values, indices: aten._index_put_impl_(self, indices, values),
        self=normal(3, 4),
        values=normal(2),
        indices=(torch.tensor([0, 2]), torch.tensor([1, 1])),
    ),
    "IndexSelectBackward0": unary(torch.index_select, dim=0, index=INDEX),
    "KthvalueBackward0": unary(torch.kthvalue, k=2, dim=1),
    "LeakyReluBackward0": unary(F.leaky_relu, tied(3, 4), negative_slope=0.1),
    "LerpBackward0": case(torch.lerp, self=normal(3, 4), end=normal(4), weight=0.3),
    "LerpBackward1": case(torch.lerp, self=normal(3, 4), end=normal(4), weight=UNIT),
    "LgammaBackward0": unary(torch.lgamma, POSITIVE),
    "LinalgCholeskyExBackward0": unary(torch.linalg.cholesky, torch.eye(3, dtype=torch.float64)),
    "LinalgCrossBackward0": case(
        lambda self, other, dim: torch.linalg.cross(self, other, dim=dim), self=normal(4, 3), other=normal(4, 3), dim=1
    ),
    "LinalgDetBackward0": case(torch.linalg.det, A=normal(3, 3)),
    "LinalgEighBackward0": case(torch.linalg.eigh, A=normal(3, 3)),
    "LinalgInvExBackward0": case(torch.linalg.inv, A=normal(3, 3)),
    "LinalgMatrixExpBackward0": unary(torch.linalg.matrix_exp, normal(3, 3)),
    "LinalgQrBackward0": case(torch.linalg.qr, A=normal(3, 3)),
    "LinalgSlogdetBackward0": case(lambda A: torch.linalg.slogdet(A).logabsdet, A=normal(3, 3)),
    "LinalgSolveExBackward0": case(torch.linalg.solve, A=normal(3, 3), B=normal(3, 2)),
    "LinalgSvdBackward0": case(torch.linalg.svd, A=normal(3, 3)),
    "LinalgVectorNormBackward0": unary(torch.linalg.vector_norm),
    "Log10Backward0": unary(torch.log10, POSITIVE),
    "Log1PBackward0": unary(torch.log1p, POSITIVE),
    "Log2Backward0": unary(torch.log2, POSITIVE),
    "LogBackward0": unary(torch.log, POSITIVE),
    "LogSigmoidBackward0": unary(F.logsigmoid),
    "LogSoftmaxBackward0": unary(torch.log_softmax, dim=1),
    "LogSoftmaxBackwardDataBackward0": case(
        lambda grad_output, output, dim: aten._log_softmax_backward_data(grad_output, output, dim, torch.float64),
        grad_output=normal(3, 4),
        output=torch.log_softmax(normal(3, 4), 1),
        dim=1,
    ),
    "LogaddexpBackward0": case(torch.logaddexp, self=normal(3, 1), other=normal(4)),
    "LogitBackward0": unary(torch.logit, UNIT),
    "LogsumexpBackward0": unary(torch.logsumexp, dim=1),
    "MaskedFillBackward0": unary(lambda x, mask: x.masked_fill(mask, 7.0), mask=MASK),
    "MaskedFillBackward1": case(
        lambda self, value, mask: self.masked_fill(mask, value), self=normal(3, 4), value=normal(), mask=MASK
    ),
    "MaskedScatterBackward0": case(
        lambda self, source, mask: self.masked_scatter(mask, source), self=normal(3, 4), source=normal(6), mask=MASK
    ),
    "MaskedSelectBackward0": unary(torch.masked_select, mask=MASK),
    "MaxBackward0": unary(torch.max, dim=1),
    "MaxBackward1": unary(torch.max, tied(3, 4)),
    "MaxPool2DWithIndicesBackward0": unary(lambda x: F.max_pool2d(x, 2), normal(1, 1, 4, 4)),
    "MaximumBackward0": case(torch.maximum, self=tied(3, 4), other=tied(4)),
    "MeanBackward0": unary(torch.mean),
    "MeanBackward1": unary(torch.mean, dim=1),
    "MedianBackward0": unary(torch.median, tied(3, 4)),
    "MedianBackward1": unary(torch.median, dim=1),
    "MinBackward0": unary(torch.min, dim=1),
    "MinBackward1": unary(torch.min, tied(3, 4)),
    "MinimumBackward0": case(torch.minimum, self=tied(3, 4), other=tied(4)),
    "MishBackward0": unary(F.mish),
    "MmBackward0": case(torch.mm, self=normal(3, 4), mat2=normal(4, 5)),
    "ModeBackward0": unary(torch.mode, dim=1),
    "MseLossBackward0": case(F.mse_loss, self=normal(3, 4), target=normal(3, 4)),
    "MulBackward0": case(torch.mul, self=normal(3, 1), other=normal(4)),
    "MulBackward1": unary(lambda x, other: aten.mul.Scalar(x, other), other=3.0),
    "MvBackward0": case(torch.mv, self=normal(3, 4), vec=normal(4)),
    "NanToNumBackward0": unary(torch.nan_to_num, torch.tensor([1.0, math.nan, math.inf], dtype=torch.float64)),
    "NansumBackward0": unary(torch.nansum, torch.tensor([1.0, math.nan], dtype=torch.float64)),
    "NativeBatchNormBackward0": case(
        lambda input, weight, bias: F.batch_norm(input, None, None, weight, bias, training=True),
        input=normal(4, 3),
        weight=normal(3),
        bias=normal(3),
    ),
    "NativeDropoutBackward0": case(lambda input, p: torch.native_dropout(input, p, True), input=normal(3, 4), p=0.4),
    "NativeGroupNormBackward0": case(
        lambda input, weight, bias: F.group_norm(input, 2, weight, bias),
        input=normal(3, 4),
        weight=normal(4),
        bias=normal(4),
    ),
    "NativeLayerNormBackward0": case(
        lambda input, weight, bias: torch.native_layer_norm(input, [4], weight, bias, 1e-5),
        input=normal(3, 4),
        weight=normal(4),
        bias=normal(4),
    ),
    "NegBackward0": unary(torch.neg),
    "NllLoss2DBackward0": unary(lambda x: F.nll_loss(x, torch.zeros(1, 2, 2, dtype=torch.long)), normal(1, 3, 2, 2)),
    "NllLossBackward0": unary(F.nll_loss, target=torch.tensor([1, 3, 1])),
    "NormBackward1": unary(lambda x, dim: aten.norm(x, 2, [dim]), dim=1),
    "PermuteBackward0": unary(torch.permute, normal(2, 3, 4), dims=(2, 0, 1)),
    "PixelShuffleBackward0": unary(F.pixel_shuffle, normal(1, 4, 2, 3), upscale_factor=2),
    "PixelUnshuffleBackward0": unary(F.pixel_unshuffle, normal(1, 1, 4, 6), downscale_factor=2),
    "PowBackward0": unary(torch.pow, exponent=3),
    "PowBackward1": case(torch.pow, self=POSITIVE, exponent=normal(4)),
    "PowBackward2": case(torch.pow, self=2.5, exponent=normal(4)),
    "PreluKernelBackward0": case(aten._prelu_kernel, self=tied(3, 4), weight=normal(4)),
    "ProdBackward0": unary(torch.prod),
    "ProdBackward1": unary(torch.prod, dim=1),
    "ReciprocalBackward0": unary(torch.reciprocal, POSITIVE),
    "ReluBackward0": unary(torch.relu, tied(3, 4)),
    "RemainderBackward0": unary(lambda x: torch.remainder(x, 0.7)),
    "RepeatBackward0": unary(lambda x: x.repeat(2, 1)),
    "ReshapeAliasBackward0": unary(lambda x: aten._reshape_alias(x, (4, 3), (3, 1))),
    "RollBackward0": unary(torch.roll, shifts=2, dims=1),
    "RoundBackward0": unary(torch.round),
    "RsqrtBackward0": unary(torch.rsqrt, POSITIVE),
    "RsubBackward0": case(
        lambda self, other, alpha: torch.rsub(self, other, alpha=alpha), self=normal(3, 1), other=normal(4), alpha=2
    ),
    "RsubBackward1": unary(lambda x, alpha: torch.rsub(x, 1.5, alpha), alpha=2),
    "SafeSoftmaxBackward0": unary(aten._safe_softmax, dim=1),
    "ScaledDotProductFlashAttentionForCpuBackward0": case(
        F.scaled_dot_product_attention, query=normal(1, 1, 3, 4), key=normal(1, 1, 3, 4), value=normal(1, 1, 3, 4)
    ),
    "ScatterAddBackward0": case(
        lambda self, src, dim, index: self.scatter_add(dim, index, src),
        self=normal(4),
        src=normal(3),
        dim=0,
        index=INDEX,
    ),
    "ScatterBackward0": case(
        lambda self, src, dim, index: self.scatter(dim, index, src),
        self=normal(4),
        src=normal(2),
        dim=0,
        index=torch.tensor([2, 0]),
    ),
    "SelectBackward0": unary(torch.select, dim=1, index=2),
    "SelectBackwardBackward0": case(
        lambda grad_output, dim, index: aten.select_backward(grad_output, (3, 4), dim, index),
        grad_output=normal(3),
        dim=1,
        index=2,
    ),
    "SgnBackward0": unary(torch.sgn, tied(3, 4)),
    "SigmoidBackward0": unary(torch.sigmoid),
    "SigmoidBackwardBackward0": case(aten.sigmoid_backward, grad_output=normal(3, 4), output=UNIT),
    "SignBackward0": unary(torch.sign, tied(3, 4)),
    "SiluBackward0": unary(F.silu),
    "SinBackward0": unary(torch.sin),
    "SinhBackward0": unary(torch.sinh),
    "SliceBackward0": unary(
        lambda x, dim, start, end, step: x[:, start:end:step], normal(3, 6), dim=1, start=1, end=6, step=2
    ),
    "SliceBackwardBackward0": case(
        lambda grad_output, start, end, step: aten.slice_backward(grad_output, (6, 2), 0, start, end, step),
        grad_output=normal(3, 2),
        start=1,
        end=6,
        step=2,
    ),
    "SmoothL1LossBackward0": case(
        lambda self, target, beta: F.smooth_l1_loss(self, target, beta=beta),
        self=2 * normal(3, 4),
        target=normal(3, 4),
        beta=0.7,
    ),
    "SoftMarginLossBackward0": unary(lambda x, target: F.soft_margin_loss(x, target), target=normal(3, 4).sign()),
    "SoftmaxBackward0": unary(torch.softmax, dim=1),
    "SoftmaxBackwardDataBackward0": case(
        lambda grad_output, output, dim: aten._softmax_backward_data(grad_output, output, dim, torch.float64),
        grad_output=normal(3, 4),
        output=torch.softmax(normal(3, 4), 1),
        dim=1,
    ),
    "SoftplusBackward0": unary(F.softplus, beta=2),
    "SoftshrinkBackward0": unary(F.softshrink, lambd=0.5),
    "SortBackward0": unary(torch.sort, dim=1),
    "SplitBackward0": unary(lambda x, dim: x.split(2, dim), dim=1),
    "SplitWithSizesBackward0": unary(lambda x, dim: x.split([1, 3], dim), dim=1),
    "SqrtBackward0": unary(torch.sqrt, POSITIVE),
    "SqueezeBackward0": unary(torch.squeeze, normal(1, 3, 1)),
    "SqueezeBackward1": unary(torch.squeeze, normal(3, 1), dim=1),
    "StackBackward0": case(lambda tensors, dim: torch.stack(tensors, dim), tensors=[normal(2), normal(2)], dim=1),
    "StdBackward0": unary(torch.std, correction=1),
    "StdMeanBackward0": unary(torch.std_mean),
    "SubBackward0": case(
        lambda self, other, alpha: torch.sub(self, other, alpha=alpha), self=normal(3, 1), other=normal(4), alpha=2
    ),
    "SubBackward1": unary(lambda x: aten.sub.Scalar(x, 2.0)),
    "SumBackward0": unary(torch.sum),
    "SumBackward1": unary(torch.sum, dim=1),
    "TBackward0": unary(torch.t),
    "TakeBackward0": unary(torch.take, index=INDEX),
    "TanBackward0": unary(torch.tan),
    "TanhBackward0": unary(torch.tanh),
    "TanhBackwardBackward0": case(aten.tanh_backward, grad_output=normal(3, 4), output=UNIT),
    "ThresholdBackward0": unary(lambda x, threshold: F.threshold(x, threshold, 7), tied(3, 4), threshold=1),
    "ThresholdBackwardBackward0": case(aten.threshold_backward, grad_output=normal(3, 4), self=tied(3, 4), threshold=0),
    "ToCopyBackward0": unary(lambda x: x.to(torch.float32)),
    "TopkBackward0": unary(torch.topk, k=2, dim=1),
    "TraceBackward0": unary(torch.trace, normal(3, 3)),
    "TransposeBackward0": unary(torch.transpose, dim0=0, dim1=1),
    "TransposeBackward1": unary(lambda x, dim0, dim1: x.transpose_(dim0, dim1), dim0=0, dim1=1),
    "TrilBackward0": unary(torch.tril, diagonal=1),
    "TriuBackward0": unary(torch.triu, diagonal=1),
    "TruncBackward0": unary(torch.trunc),
    "UnbindBackward0": unary(torch.unbind, dim=1),
    "UnfoldBackward0": unary(lambda x: x.unfold(1, 2, 1)),
    "UnsafeSplitBackward0": unary(lambda x, dim: torch.unsafe_split(x, 2, dim), dim=1),
    "UnsafeViewBackward0": unary(lambda x: aten._unsafe_view(x, (4, 3))),
    "UnsqueezeBackward0": unary(torch.unsqueeze, dim=1),
    "UnsqueezeBackward1": unary(lambda x, dim: x.unsqueeze_(dim), dim=1),
    "UpsampleBilinear2DBackward0": unary(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), normal(1, 1, 2, 2)
    ),
    "UpsampleNearest2DBackward0": unary(lambda x: F.interpolate(x, scale_factor=2), normal(1, 1, 2, 2)),
    "VarBackward0": unary(torch.var, correction=1),
    "VarMeanBackward0": unary(torch.var_mean),
    "ViewAsComplexBackward0": unary(torch.view_as_complex, normal(3, 2)),
    "ViewAsRealBackward0": unary(torch.view_as_real, torch.complex(normal(3), normal(3))),
    "ViewBackward0": unary(lambda x: x.view(4, 3)),
    "WhereBackward0": case(
        lambda condition, self, other: torch.where(condition, self, other),
        condition=MASK,
        self=normal(3, 4),
        other=normal(4),
    ),
    "XlogyBackward0": case(torch.xlogy, self=normal(3, 4), other=POSITIVE),
    "ZeroBackward0": unary(torch.zero_),
}

# Made on other devices only.
ELSEWHERE = {
    "CudnnBatchNormBackward0",
    "LinearBackward0",
    "ScaledDotProductEfficientAttentionBackward0",
    "ScaledDotProductFlashAttentionBackward0",
}
CLOSED = [
    (name, argument)
    for name, rule in RULES.items()
    for argument, expression in rule.items()
    if not isinstance(expression, Prose)
]


class Run:
    """One run of a case: the edges to its inputs by argument, its outputs, and the names a rule may use."""

    def __init__(self, name: str, *, broadcast: bool = False):
        op, arguments = CASES[name]
        if broadcast:
            tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
            arguments = {
                argument: torch.broadcast_tensors(value, *tensors)[0].clone()
                if isinstance(value, torch.Tensor)
                else value
                for argument, value in arguments.items()
            }
        fed = dict(arguments)
        self.edges: dict[str, list[torch.autograd.graph.GradientEdge]] = {}
        for argument in RULES[name]:
            is_list = isinstance(arguments[argument], list)
            # Not leaves: an in-place operation may write into them.
            inputs = [value.clone().requires_grad_().clone() for value in as_list(arguments[argument])]
            self.edges[argument] = [torch.autograd.graph.get_gradient_edge(value) for value in inputs]
            fed[argument] = inputs if is_list else inputs[0]
        self.outputs = as_list(op(*fed.values()))
        self.node = self.outputs[0].grad_fn
        self.grads = [torch.randn(output.shape, generator=random).to(output) for output in self.outputs]
        results = {f"result{i}": output.detach() for i, output in enumerate(self.outputs)}
        self.names = {"torch": torch, "F": F, "math": math, "grad": self.grads[0], "grads": self.grads, **results}
        self.names |= {"result": results["result0"], "indices": self.outputs[-1], **arguments}

    def evaluate(self, expression: str, i: int) -> torch.Tensor:
        """The rule's value for slot ``i`` of its argument."""
        expression, _, definitions = expression.partition("  # where ")
        names = {**self.names, "i": i}
        if "=" in definitions:
            exec(definitions, names)
        return eval(expression, names)

    def differentiate(self, argument: str, grads: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """What the engine sends to ``argument``."""
        return torch.autograd.grad(self.outputs[: len(grads)], self.edges[argument], grads, retain_graph=True)


def as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, torch.Tensor) else list(value)


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() | ELSEWHERE == RULES.keys()


@pytest.mark.parametrize("name", CASES)
def test_node_and_its_slots_are_those_of_torch(name: str) -> None:
    run = Run(name)
    assert type(run.node).__name__ == name
    edges = [(edge.node, edge.output_nr) for argument in find_slots(name) for edge in run.edges[argument]]
    assert list(run.node.next_functions) == edges


@pytest.mark.parametrize("name", sorted(ELSEWHERE | WHOLE_RULES.keys()))
def test_node_without_a_case_exists(name: str) -> None:
    assert name in dir(torch._C._functions)


@pytest.mark.parametrize(("name", "argument"), CLOSED)
def test_closed_rule_is_what_the_engine_sends(name: str, argument: str) -> None:
    run = Run(name)
    grads = run.grads if "grads" in RULES[name][argument] else run.grads[:1]
    sent = run.differentiate(argument, grads)
    for i, expected in enumerate(sent):
        found = run.evaluate(RULES[name][argument], i).sum_to_size(expected.shape)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12, check_dtype=False)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_elementwise_output_depends_on_its_own_element_only(name: str) -> None:
    run = Run(name, broadcast=True)
    output = run.outputs[0]
    for position in range(output.numel()):
        one = torch.zeros_like(output)
        one.view(-1)[position] = 1
        for argument in RULES[name]:
            (sent,) = run.differentiate(argument, [one])
            sent = sent.flatten().nan_to_num()
            assert sent.shape == (output.numel(),)
            assert sent[:position].count_nonzero() == sent[position + 1 :].count_nonzero() == 0


def test_formula_names_every_slot() -> None:
    assert find_formula("MulBackward0") == "self: grad * other;  other: grad * self"
    assert find_formula("AccumulateGrad") == find_formula("torch::autograd::AccumulateGrad") == ".grad += grad"
    assert find_formula("ProdBackward0") == "self: grad * result / self  (where self is not 0)"


def test_unknown_node_has_no_formula() -> None:
    assert find_formula("MySquareBackward") is None
    assert find_slots("MySquareBackward") == []


def test_rules_of_whole_nodes_have_no_slots() -> None:
    assert not WHOLE_RULES.keys() & RULES.keys()
    assert all(find_slots(name) == [] for name in WHOLE_RULES)


def test_formulas_import_no_torch() -> None:
    code = "import sys, explorer.formulas; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
