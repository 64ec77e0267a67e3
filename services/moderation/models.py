"""One check of one prompt: who asked, what each layer said, how long it took."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from core.clock import Milliseconds


class Decision(StrEnum):
    PASSED = "passed"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class ModerationContext:
    """Whose prompt it is. `user_id` is None for an anonymous caller; `mode` as in the history (`basic`, `chat`, …)."""

    user_id: str | None
    request_id: str
    mode: str


@dataclass(frozen=True)
class LayerResult:
    """What one layer said. `category` is None where the layer knows none, as the keyword layer."""

    layer: str
    decision: Decision
    duration_ms: float
    category: str | None = None


@dataclass(frozen=True)
class ModerationCheck:
    """A check grows by a LayerResult a layer and ends as one audit entry."""

    id: str
    prompt: str
    context: ModerationContext
    started_at: Milliseconds
    layers: tuple[LayerResult, ...] = ()

    def with_layer(self, result: LayerResult) -> Self:
        return replace(self, layers=(*self.layers, result))

    @property
    def decision(self) -> Decision:
        blocked = any(layer.decision is Decision.BLOCKED for layer in self.layers)
        return Decision.BLOCKED if blocked else Decision.PASSED

    @property
    def duration_ms(self) -> float:
        """Time spent in the layers, without what the pipeline did between them."""
        return sum(layer.duration_ms for layer in self.layers)

    @property
    def prompt_sha256(self) -> str:
        """Hex digest of the prompt in UTF-8; a lone surrogate has no UTF-8 and still gets a digest."""
        return hashlib.sha256(self.prompt.encode("utf-8", "surrogatepass")).hexdigest()
