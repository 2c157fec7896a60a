"""Small pieces of wording. Pure."""

from datetime import datetime


def count(number: int, noun: str) -> str:
    """ "1 page", "1,204 pages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def seconds(value: float) -> str:
    """ "0.02 s", "1.4 s", "12 s"."""
    if value < 1:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def size(octets: int) -> str:
    """ "640 KB", "1.2 MB"."""
    value = float(octets)
    for unit in ("bytes", "KB", "MB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit != "MB" else f"{value:.1f} MB"
        value /= 1024
    return f"{value:.1f} GB"


def day(moment: datetime) -> str:
    """ "21 Nov 2026"."""
    return f"{moment.day} {moment:%b %Y}"
