"""Names that the editor offers to complete: the common ones of PyTorch, dotted or fitting any value."""

_TORCH = """
    abs add allclose arange argmax argmin autograd bmm cat chunk clamp cos cumsum device diag dot einsum empty equal exp
    eye flatten float32 float64 from_numpy full gather func int64 isnan linalg linspace log logsumexp manual_seed matmul
    max mean min mm no_grad norm ones ones_like outer pow prod rand randint randn randn_like relu reshape sigmoid sin
    softmax sort split sqrt squeeze stack std sum tan tanh tensor topk tril triu unsqueeze var where zeros zeros_like
"""
_LAYERS = """
    BCELoss BCEWithLogitsLoss BatchNorm1d BatchNorm2d Conv1d Conv2d CrossEntropyLoss Dropout Embedding Flatten GELU GRU
    HuberLoss Identity L1Loss LSTM LayerNorm Linear MSELoss MaxPool2d Module ModuleList MultiheadAttention NLLLoss
    Parameter RNN ReLU Sequential Sigmoid SiLU SmoothL1Loss Softmax Softplus Tanh TransformerEncoder
    TransformerEncoderLayer functional init
"""
_FUNCTIONS = """
    binary_cross_entropy binary_cross_entropy_with_logits conv2d cross_entropy dropout gelu huber_loss l1_loss
    layer_norm leaky_relu linear log_softmax max_pool2d mse_loss nll_loss normalize one_hot pad relu
    scaled_dot_product_attention sigmoid silu smooth_l1_loss softmax softplus tanh
"""
_OPTIMIZERS = "Adagrad Adam AdamW RMSprop SGD lr_scheduler"
_METHODS = """
    abs add_ argmax backward clamp clone copy_ cos cpu cumsum data detach device dim dot dtype exp expand flatten float
    grad grad_fn item is_leaf log long matmul max mean min mul_ name ndim next_functions norm numel numpy parameters
    permute pow prod register_hook relu repeat requires_grad requires_grad_ reshape retain_grad shape sigmoid sin size
    softmax sqrt squeeze std step sub_ sum t tanh to tolist transpose unsqueeze var view zero_ zero_grad
"""

COMPLETIONS: list[str] = [
    *(f"torch.{name}" for name in _TORCH.split()),
    *(f"nn.{name}" for name in _LAYERS.split()),
    *(f"F.{name}" for name in _FUNCTIONS.split()),
    *(f"optim.{name}" for name in _OPTIMIZERS.split()),
    "torch.autograd.grad",
    "torch.autograd.Function",
    *(f".{name}" for name in _METHODS.split()),
]
