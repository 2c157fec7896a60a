"""What models cost, in words. Pure; nothing here is Markdown yet (a dollar sign begins a formula there)."""

from rag.domain import ModelInfo, Price
from rag.usage import dollars


def tokens(count: int) -> str:
    """ "512", "8K", "1M" tokens."""
    if count >= 1_000_000:
        return f"{count / 1_000_000:.3g}M"
    return f"{count / 1_000:.0f}K" if count >= 1_000 else str(count)


def of(price: Price) -> str:
    """ "$0.25 in, $2.00 out per million tokens", "$2.00 per 1,000 searches", "free"; "" where it is not known."""
    words = _words(price)
    return f"{words} per million tokens" if price.prompt or price.completion else words


def facts(model: ModelInfo) -> str:
    """Price, longest input and pictures, as far as they are known: "free · reads 8K tokens · takes pictures"."""
    context = f"reads {tokens(model.context)} tokens" if model.context else ""
    return _joined(of(model.price), context, "takes pictures" if model.takes_images else "")


def brief(model: ModelInfo) -> str:
    """The same for a list of models, with the price of tokens per million: "$0.25 in, $2.00 out · 400K · pictures"."""
    context = tokens(model.context) if model.context else ""
    return _joined(_words(model.price), context, "pictures" if model.takes_images else "")


def _words(price: Price) -> str:
    searches = f"{dollars(price.request * 1_000)} per 1,000 searches" if price.request else ""
    prompt, completion = (dollars((per_token or 0.0) * 1e6) for per_token in (price.prompt, price.completion))
    if price.prompt and price.completion:
        text = f"{prompt} in, {completion} out"
    else:
        text = prompt if price.prompt else f"{completion} out" if price.completion else ""
    known = ", ".join(part for part in (searches, text) if part)
    return known or ("free" if 0 in (price.prompt, price.request) else "")


def _joined(*facts: str) -> str:
    return " · ".join(fact for fact in facts if fact)
