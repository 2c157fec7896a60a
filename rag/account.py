"""What one question takes while it is being answered: steps with their times, usage, notices for the reader."""

import time
from dataclasses import dataclass, field

from rag.domain import Step, StepName, Usage


@dataclass(slots=True)
class Account:
    """Filled step by step; the finished answer takes its final state along."""

    usage: Usage = field(default_factory=Usage)
    steps: list[Step] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    _since: float = field(default_factory=time.perf_counter)

    def step(self, name: StepName, count: int) -> float:
        """Note that a step ended now, with how many items it handled; returns its seconds."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        self.steps.append(Step(name, count, seconds))
        return seconds

    def spend(self, usage: Usage) -> None:
        """Add what a model reported; the cost stays None until one is reported."""
        costs = [cost for cost in (self.usage.cost, usage.cost) if cost is not None]
        self.usage = Usage(
            self.usage.prompt_tokens + usage.prompt_tokens,
            self.usage.completion_tokens + usage.completion_tokens,
            self.usage.search_units + usage.search_units,
            sum(costs) if costs else None,
        )
