"""Which names do other frameworks give to layers, and what is written here instead?"""

from __future__ import annotations

_RANKED = {
    "AdaptiveAvgPool{}d": "nn.GlobalAvgPool(), where one place is to be left",
    "AdaptiveMaxPool{}d": "nn.GlobalMaxPool(), where one place is to be left",
    "AveragePooling{}D": "nn.AvgPool{}D(pool_size)",
    "AvgPool{}d": "nn.AvgPool{}D(pool_size); channels come last",
    "BatchNorm{}d": "nn.BatchNorm(), or axis=1 where channels come first",
    "Conv{}d": "nn.Conv{}D(filters, kernel_size); channels come last",
    "ConvTranspose{}d": "nn.Conv{}DTranspose(filters, kernel_size); channels come last",
    "GlobalAveragePooling{}D": "nn.GlobalAvgPool()",
    "GlobalMaxPooling{}D": "nn.GlobalMaxPool()",
    "MaxPool{}d": "nn.MaxPool{}D(pool_size); channels come last",
    "MaxPooling{}D": "nn.MaxPool{}D(pool_size)",
}

LAYERS: dict[str, str] = {
    **{name.format(n): text.format(n) for name, text in _RANKED.items() for n in (1, 2, 3)},
    "Activation": "nn.relu, or whichever function it is: a function is a layer in nn.Sequential",
    "BCELoss": "nn.losses.binary_cross_entropy(logits, targets), before the sigmoid",
    "BCEWithLogitsLoss": "nn.losses.binary_cross_entropy(logits, targets)",
    "BatchNormalization": "nn.BatchNorm()",
    "Bidirectional": "nn.LSTM(units, bidirectional=True)",
    "CrossEntropyLoss": "nn.losses.cross_entropy(logits, labels)",
    "ELU": "nn.elu",
    "GELU": "nn.gelu, or nn.gelu_tanh",
    "GroupNormalization": "nn.GroupNorm(groups)",
    "HuberLoss": "nn.losses.huber(predictions, targets)",
    "Identity": "nn.identity",
    "Input": "nothing: the sizes of inputs are found at the first call",
    "InputLayer": "nothing: the sizes of inputs are found at the first call",
    "KLDivLoss": "nn.losses.kl_divergence(logits, targets)",
    "L1Loss": "nn.losses.mae(predictions, targets)",
    "LayerNormalization": "nn.LayerNorm()",
    "LeakyReLU": "nn.leaky_relu",
    "Linear": "nn.Dense(units); the number of features is found at the first call",
    "MSELoss": "nn.losses.mse(predictions, targets)",
    "ModuleDict": "a plain dict: self.layers = {'first': nn.Dense(4)}",
    "ModuleList": "a plain list: self.layers = [nn.Dense(4), nn.Dense(2)]",
    "MultiheadAttention": "nn.MultiHeadAttention(heads)",
    "NLLLoss": "nn.losses.cross_entropy(logits, labels), before the log_softmax",
    "Parameter": "pe.Parameter(value)",
    "RNN": "nn.LSTM(units) or nn.GRU(units)",
    "ReLU": "nn.relu, or activation='relu' in nn.Dense",
    "Reshape": "lambda x: x.reshape(len(x), ...): a function is a layer in nn.Sequential",
    "SiLU": "nn.silu",
    "Sigmoid": "nn.sigmoid",
    "SimpleRNN": "nn.LSTM(units) or nn.GRU(units)",
    "SmoothL1Loss": "nn.losses.huber(predictions, targets)",
    "Softmax": "nn.softmax",
    "Softplus": "nn.softplus",
    "Tanh": "nn.tanh",
    "init": "nn.initializers",
}

FUNCTIONS: dict[str, str] = {
    name: f"nn.{name}"
    for name in ("elu", "gelu", "leaky_relu", "log_softmax", "relu", "selu", "sigmoid", "silu",
                 "softmax", "softplus", "tanh")
} | {
    "adaptive_avg_pool2d": "pe.mean(x, axis=(1, 2))",
    "avg_pool2d": "nn.functional.avg_pool(x, window)",
    "binary_cross_entropy": "nn.losses.binary_cross_entropy(logits, targets)",
    "binary_cross_entropy_with_logits": "nn.losses.binary_cross_entropy(logits, targets)",
    "conv2d": "nn.functional.conv(x, kernel)",
    "cross_entropy": "nn.losses.cross_entropy(logits, labels)",
    "dropout": "nn.Dropout(rate), a layer",
    "embedding": "pe.take(table, ids, axis=0)",
    "l1_loss": "nn.losses.mae(predictions, targets)",
    "linear": "x @ kernel + bias",
    "max_pool2d": "nn.functional.max_pool(x, window)",
    "mse_loss": "nn.losses.mse(predictions, targets)",
    "one_hot": "pe.one_hot(labels, classes)",
    "pad": "pe.pad(x, pad_width)",
    "scaled_dot_product_attention": "nn.attention(query, key, value)",
}  # fmt: skip

LOSSES: dict[str, str] = {
    "bce": "nn.losses.binary_cross_entropy(logits, targets)",
    "binary_crossentropy": "nn.losses.binary_cross_entropy(logits, targets)",
    "categorical_crossentropy": "nn.losses.cross_entropy(logits, probabilities)",
    "kl_div": "nn.losses.kl_divergence(logits, targets)",
    "mean_absolute_error": "nn.losses.mae(predictions, targets)",
    "mean_squared_error": "nn.losses.mse(predictions, targets)",
    "nll_loss": "nn.losses.cross_entropy(logits, labels), before the log_softmax",
    "sparse_categorical_crossentropy": "nn.losses.cross_entropy(logits, labels)",
} | {name: rewrite for name, rewrite in LAYERS.items() if name.endswith("Loss")}
