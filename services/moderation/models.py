"""One check of one prompt: who asked, what each layer said, how long it took."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Self

from core.clock import Milliseconds

KEYWORD_LAYER = "keyword"
AI_LAYER = "ai"


class Decision(StrEnum):
    """UNDECIDED: a layer could not tell, and the prompt went on to the provider's own filter."""

    PASSED = "passed"
    BLOCKED = "blocked"
    UNDECIDED = "undecided"


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

    def as_entry(self) -> dict[str, object]:
        """As it stands in the audit."""
        return {
            "layer": self.layer,
            "decision": self.decision,
            "category": self.category,
            "duration_ms": round(self.duration_ms, 3),
        }


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
        said = {layer.decision for layer in self.layers}
        return next((found for found in (Decision.BLOCKED, Decision.UNDECIDED) if found in said), Decision.PASSED)

    @property
    def duration_ms(self) -> float:
        """Time spent in the layers, without what the pipeline did between them."""
        return sum(layer.duration_ms for layer in self.layers)

    @property
    def prompt_as_text(self) -> str:
        """For where the prompt itself is kept: a lone surrogate is no text, and must not cost the entry."""
        return self.prompt.encode("utf-8", "replace").decode()

    @cached_property
    def prompt_sha256(self) -> str:
        """Hex digest of the prompt in UTF-8; a lone surrogate has no UTF-8 and still gets a digest."""
        return hashlib.sha256(self.prompt.encode("utf-8", "surrogatepass")).hexdigest()
