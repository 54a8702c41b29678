"""How far losses are apart that the same steps over the same rows from the same weights have in several programs."""

WINDOW = 20
BOUND = 0.005
# What is compared with what; the last two say how much comes of rounding and of order alone.
PAIRS = [
    ("fused and twins", "curve.ours", "curve.twins"),
    ("ours and transformers", "curve.ours", "curve.peer.autocast"),
    ("fp8 and bf16", "curve.fp8", "curve.ours"),
    ("transformers with bf16 weights, and under autocast", "curve.peer.masters", "curve.peer.autocast"),
]


def running_mean(losses: list[float]) -> list[float]:
    return [sum(losses[at - WINDOW:at]) / WINDOW for at in range(WINDOW, len(losses) + 1)]


def apart(one: list[float], other: list[float]) -> tuple[float, float]:
    """The largest and the mean relative difference of running means."""
    pairs = zip(running_mean(one), running_mean(other))
    differences = [abs(a - b) / b if a == a and b == b else float("inf") for a, b in pairs]
    return max(differences), sum(differences) / len(differences)


def losses(results, name: str) -> list[float]:
    return next((line["losses"] for line in results.lines(name)), [])


def compared(results) -> list[tuple[str, float, float]]:
    found = []
    for name, one, other in PAIRS:
        one, other = losses(results, one), losses(results, other)
        if len(one) == len(other) >= WINDOW:
            found.append((name, *apart(one, other)))
    return found


def table(results, found: list[tuple[str, float, float]]) -> list[str]:
    if not found:
        return ["Nothing was compared."]
    steps = len(losses(results, "curve.ours"))
    rows = [f"{steps} steps from the same weights over the same rows. Of each step the mean loss over the tokens trained on, before "
            f"its update; of that the mean over {WINDOW} steps at a time; of that |a - b| / b, at all {steps - WINDOW + 1} places. "
            "The last row is what rounding and the order of sums alone make of a difference. In the twins' run the "
            "optimizer stays fused.", "",
            "| | largest | mean |", "|---|---|---|"]
    rows += [f"| {name} | {largest:.3%} | {mean:.3%} |" for name, largest, mean in found]
    rows += ["", "| step | " + " | ".join(name for name in names(results)) + " |", "|---" * (1 + len(names(results))) + "|"]
    for step in sorted({1, *(steps * part // 6 for part in range(1, 7))} - {0}):
        rows.append(f"| {step} | " + " | ".join(f"{losses(results, name)[step - 1]:.4f}" for name in names(results)) + " |")
    return rows


def names(results) -> list[str]:
    every = dict.fromkeys(name for pair in PAIRS for name in pair[1:])
    steps = len(losses(results, "curve.ours"))
    return [name for name in every if steps and len(losses(results, name)) == steps]
