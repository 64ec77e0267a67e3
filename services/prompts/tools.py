"""The prompt tools: the text model writes, betters, varies and describes. What it says is passed on, and nothing else.

A call on the operator's key counts as one of the day's `text` calls, which costs no points, and is given back when it
fails.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import orjson
from pydantic import BaseModel, SecretStr
from redis.exceptions import RedisError

from core.errors import JsonValue
from core.ids import new_id
from core.logging import get_logger
from services.accounts.models import Caller
from services.generation.drafts import is_metered, quota_identity
from services.moderation.models import ModerationContext
from services.moderation.service import ModerationService
from services.prompts import instructions
from services.prompts.instructions import Draft, Drafts, Kind, Written
from services.prompts.models import Language
from services.providers.service import ProviderService, TextRoute
from services.providers.structured import Question, StructuredText
from services.quota.models import TEXT
from services.quota.service import QuotaService
from services.references.models import ReferenceImage

Shape = TypeVar("Shape", bound=BaseModel)

log = get_logger(__name__)


@dataclass(frozen=True)
class ToolCall:
    """Who asks, and with which key of their own."""

    request_id: str
    caller: Caller
    own_key: SecretStr | None


class PromptTools:
    """All raise ApiKeyRequired, ContentBlocked, QuotaExceeded, UnusableAnswer and the other ProviderErrors."""

    def __init__(
        self,
        providers: ProviderService,
        text: StructuredText,
        moderation: ModerationService,
        quota: QuotaService,
        *,
        trial_enabled: bool,
    ) -> None:
        self._providers = providers
        self._text = text
        self._moderation = moderation
        self._quota = quota
        self._trial_enabled = trial_enabled

    async def generate(
        self, call: ToolCall, category: str, style: str | None, count: int, language: Language
    ) -> list[Draft]:
        """At most `count` new prompts."""
        given = {"category": category, "style": style}
        answer = await self._ask(call, instructions.generating(count, language), given, Drafts)
        return answer.prompts[:count]

    async def enhance(self, call: ToolCall, prompt: str, language: Language | None) -> str:
        """The prompt, better; in its own language for None."""
        return (await self._ask(call, instructions.enhancing(language), {"prompt": prompt}, Written)).prompt

    async def variations(self, call: ToolCall, prompt: str, count: int, kind: Kind | None) -> list[Draft]:
        """At most `count` of them."""
        answer = await self._ask(call, instructions.varying(count, kind), {"prompt": prompt}, Drafts)
        return answer.prompts[:count]

    async def describe(self, call: ToolCall, image: ReferenceImage, language: Language) -> str:
        """A prompt that would make this image, whose file stays the caller's."""
        return (await self._ask(call, instructions.describing(language), {}, Written, image)).prompt

    async def _ask(
        self,
        call: ToolCall,
        instruction: str,
        given: Mapping[str, JsonValue],
        shape: type[Shape],
        *images: ReferenceImage,
    ) -> Shape:
        route = self._providers.route_text(
            own_key=call.own_key, operator_key_allowed=self._trial_enabled or call.caller.is_admin
        )
        await self._check(call, " ".join(str(text) for text in given.values() if text is not None))
        text = orjson.dumps(given).decode() if given else "The image:"
        async with self._counted(call, route):
            return await self._text.ask(route, Question(instruction, text, references=images), shape)

    async def _check(self, call: ToolCall, words: str) -> None:
        """By the keywords alone: what is made of the answer is a prompt, which all layers look at."""
        if not words:
            return
        context = ModerationContext(user_id=call.caller.user_id, request_id=call.request_id, mode=TEXT)
        await self._moderation.finish(await self._moderation.check_keywords(words, context))

    @contextlib.asynccontextmanager
    async def _counted(self, call: ToolCall, route: TextRoute) -> AsyncIterator[None]:
        if not is_metered(call.caller, route.key_source == "request"):
            yield
            return
        reservation = await self._quota.reserve(
            quota_identity(call.caller), TEXT, count=1, reservation_id=new_id("call")
        )
        try:
            yield
        except BaseException:
            with _left_to_the_sweep():
                await self._quota.release(reservation)
            raise
        with _left_to_the_sweep():
            await self._quota.commit(reservation)


@contextlib.contextmanager
def _left_to_the_sweep() -> Iterator[None]:
    """Redis is away: the reservation expires, and the sweep gives back what it holds."""
    try:
        yield
    except RedisError as error:
        log.warning("call of a prompt tool not settled", reason=str(error))
