"""What a made image is called, whose it is and how long it stays: all that follows from its command and its call."""

from core.clock import Milliseconds, now_ms
from core.ids import derived_id
from services.accounts.models import Caller
from services.generation.models import GenerationCommand, Work
from services.history.models import Image
from services.idempotency import Call
from services.providers.base import ImageResult
from services.quota.models import QuotaIdentity
from services.storage.names import EXTENSIONS, image_stem

UNLISTED_KEPT_MS = 24 * 3600 * 1000


def is_metered(caller: Caller, has_own_key: bool) -> bool:
    """Only callers on the operator's key are; admins are not, but for a service key of theirs with a cap: it is to be
    kept, whoever set it.
    """
    return not has_own_key and (caller.role != "admin" or caller.daily_points is not None)


def quota_identity(caller: Caller) -> QuotaIdentity:
    address = caller.address if caller.role == "guest" else None
    return QuotaIdentity(caller.user_id, address, caller.service_key_id, caller.daily_points)


def image_id_of(call_id: str) -> str:
    return derived_id("img", call_id, 0)


def stem_of_call(command: GenerationCommand, caller: Caller, call: Call) -> str:
    """Where the image of a call goes in storage, without its extension: the same at each try."""
    return image_stem(
        folder_id=caller.folder_id,
        mode=command.mode,
        prompt=command.prompt,
        image_id=image_id_of(call.id),
        made_at=call.started_at,
        listed=command.save_to_history,
    )


def draft_of(
    work: Work,
    caller: Caller,
    stem: str,
    result: ImageResult,
    duration: float,
    guest_kept_ms: Milliseconds,
) -> Image:
    command, facts, now = work.command, result.image.facts, now_ms()
    chat = command.chat
    return Image(
        id=image_id_of(work.call.id),
        user_id=caller.user_id,
        folder_id=caller.folder_id,
        key=f"{stem}.{EXTENSIONS[facts.mime_type]}",
        mode=command.mode,
        prompt=command.prompt,
        aspect_ratio=command.aspect_ratio,
        resolution=command.resolution,
        provider=work.route.provider.name,
        model=work.route.model.id,
        duration=duration,
        created_at=now,
        width=facts.width,
        height=facts.height,
        size=result.image.size,
        mime_type=facts.mime_type,
        call_id=work.call.id,
        listed=command.save_to_history,
        negative_prompt=command.negative_prompt,
        seed=command.seed,
        safety_level=command.safety_level,
        session_id=None if chat is None else chat.session_id,
        chat_index=None if chat is None else chat.index,
        task_id=None if work.share is None else work.share.task_id,
        text_response=result.text_response,
        thinking=result.thinking,
        search_sources=result.search_sources,
        expires_at=_expiry(command, caller, now, guest_kept_ms),
    )


def _expiry(
    command: GenerationCommand, caller: Caller, now: Milliseconds, guest_kept_ms: Milliseconds
) -> Milliseconds | None:
    if not command.save_to_history:
        return now + UNLISTED_KEPT_MS
    return now + guest_kept_ms if caller.role == "guest" else None
