"""torch's fused AdamW with the settings of ours, over fp32 weights or over bf16 weights with fp32 masters."""

import torch

CLIP = 1.0


def adamw(weights: list[torch.Tensor]) -> torch.optim.AdamW:
    """Norms and biases do not decay."""
    decayed = [w for w in weights if w.dim() > 1]
    others = [w for w in weights if w.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class Plain:
    """One optimizer over the weights."""

    def __init__(self, model: torch.nn.Module):
        self.weights = list(model.parameters())
        self.optimizer = adamw(self.weights)

    def step(self, rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.forget()

    def forget(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


class Masters:
    """bf16 weights and gradients; fp32 masters and moments. An optimizer a layer, so that of fp32 gradients there are never
    more than one layer's."""

    def __init__(self, model: torch.nn.Module):
        layers = [list(layer.parameters()) for layer in model.model.layers]
        inside = {id(weight) for layer in layers for weight in layer}
        self.weights = list(model.parameters())
        outside = [[weight] for weight in self.weights if id(weight) not in inside]
        self.parts = []
        for weights in layers + outside:
            masters = [weight.data for weight in weights]
            # Of parameters alone: what positions are multiplied by stays fp32.
            for weight in weights:
                weight.data = weight.data.to(torch.bfloat16)
            self.parts.append((weights, masters, adamw(masters)))

    def step(self, rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
        for weights, masters, optimizer in self.parts:
            for weight, master in zip(weights, masters):
                master.grad = weight.grad.float()
                weight.grad = None
            set_rate(optimizer, rate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch._foreach_copy_([weight.data for weight in weights], masters)

    def forget(self) -> None:
        for weight in self.weights:
            weight.grad = None
