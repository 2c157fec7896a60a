"""The Usage tab of the settings."""


def draw() -> None:
    """Draw what calls to models' servers took, and the monthly budget."""


def warning() -> str | None:
    """The sentence to show on other pages while the month's budget is nearly spent; None before that."""
    return None
