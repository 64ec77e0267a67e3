"""What a task that makes images was asked for, as it stands on its row."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import SecretStr

from core.ids import derived_id
from services.accounts.models import Caller, Role
from services.generation.models import Accepted, GenerationCommand, Share
from services.history.models import Image
from services.idempotency import Call
from services.providers.base import SafetyLevel
from services.references.models import ReferenceImage
from services.tasks.models import ItemResult, Task

# Rounded, as image models of 2026 answer; a provider may be twice as slow in its busy hours.
TYPICAL_SECONDS = {"512": 6, "1K": 10, "2K": 15, "4K": 30}


@dataclass(frozen=True)
class ImageOrder:
    """A command, with the choices of provider, model and key that were made when it was accepted.

    `address` is a guest's, whose share of the pool goes by it. `references`: see TaskReferences.
    """

    request_id: str
    role: Role
    folder_id: str
    address: str
    mode: str
    prompt: str
    aspect_ratio: str
    resolution: str
    safety_level: SafetyLevel
    enable_thinking: bool
    negative_prompt: str | None
    seed: int | None
    provider: str
    model: str
    uses_own_key: bool
    save_to_history: bool
    references: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, command: GenerationCommand, caller: Caller, accepted: Accepted) -> Self:
        return cls(
            request_id=command.request_id,
            role=caller.role,
            folder_id=caller.folder_id,
            address=caller.address,
            mode=command.mode,
            prompt=command.prompt,
            aspect_ratio=command.aspect_ratio,
            resolution=command.resolution,
            safety_level=command.safety_level,
            enable_thinking=command.enable_thinking,
            negative_prompt=command.negative_prompt,
            seed=command.seed,
            provider=accepted.provider,
            model=accepted.model,
            uses_own_key=accepted.uses_own_key,
            save_to_history=command.save_to_history,
        )

    @classmethod
    def on(cls, task: Task) -> Self:
        return cls(**task.params)

    def as_params(self) -> dict[str, Any]:
        return asdict(self)

    def command(
        self, user_id: str, own_key: SecretStr | None = None, references: tuple[ReferenceImage, ...] = ()
    ) -> GenerationCommand:
        return GenerationCommand(
            request_id=self.request_id,
            caller=Caller(user_id, self.role, self.folder_id, session_id="", address=self.address),
            own_key=own_key,
            mode=self.mode,
            prompt=self.prompt,
            aspect_ratio=self.aspect_ratio,
            resolution=self.resolution,
            safety_level=self.safety_level,
            enable_thinking=self.enable_thinking,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            provider=self.provider,
            model=self.model,
            save_to_history=self.save_to_history,
            references=references,
        )


def typical_seconds(task: Task) -> float:
    """What one image of a task mostly takes, by its resolution; 0 for a task that makes none."""
    return TYPICAL_SECONDS.get(str(task.params.get("resolution")), 0)


def share_of(task: Task, index: int) -> Share:
    """One image of a task: what it is called follows from the task and its index, at each try and in each round."""
    assert task.reservation is not None, "a task that makes images holds something, if only its place"
    call = Call(derived_id("call", task.id, index), task.created_at)
    return Share(task.id, call, task.reservation, is_first=task.attempts == 1)


def made(index: int, image: Image) -> ItemResult:
    """What is kept of an image on the task; its texts stand in the history."""
    return ItemResult(
        index,
        data={
            "id": image.id,
            "key": image.key,
            "listed": image.listed,
            "mime_type": image.mime_type,
            "width": image.width,
            "height": image.height,
            "duration": image.duration,
        },
    )
