"""What models cost, in words. Pure; nothing here is Markdown yet (a dollar sign begins a formula there)."""

from rag.domain import ModelInfo, Price


def dollars(amount: float) -> str:
    """ "$12.50", "$0.0004", "$0"."""
    if amount == 0:
        return "$0"
    if amount >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.8f}".rstrip("0") if amount >= 1e-8 else "less than $0.00000001"


def tokens(count: int) -> str:
    """ "512", "8K", "1M" tokens."""
    if count >= 1_000_000:
        return f"{count / 1_000_000:.3g}M"
    return f"{count / 1_000:.0f}K" if count >= 1_000 else str(count)


def of(price: Price) -> str:
    """ "$0.25 in, $2.00 out per million tokens", "$2.00 per 1,000 searches", "free"; "" where it is not known."""
    parts = []
    if price.request:
        parts.append(f"{dollars(price.request * 1_000)} per 1,000 searches")
    if price.prompt and price.completion:
        parts.append(f"{dollars(price.prompt * 1e6)} in, {dollars(price.completion * 1e6)} out per million tokens")
    elif price.prompt or price.completion:
        parts.append(f"{dollars((price.prompt or price.completion or 0.0) * 1e6)} per million tokens")
    if parts:
        return ", ".join(parts)
    return "free" if 0 in (price.prompt, price.request) else ""


def facts(model: ModelInfo) -> str:
    """Price, longest input and pictures, as far as they are known: "free · 8K tokens · takes pictures"."""
    context = f"{tokens(model.context)} tokens" if model.context else ""
    return " · ".join(
        fact for fact in (of(model.price), context, "takes pictures" if model.takes_images else "") if fact
    )
