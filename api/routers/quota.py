"""/api/quota: what the caller may still make today."""

from fastapi import Depends, Request, Response, Security

from api.context import services_of
from api.dependencies import BEARER, CurrentCaller, KeyBeside, Services, key_beside, key_documented, reading_caller
from api.errors import errors
from api.lean_route import LeanRoute
from api.routing import Router
from api.schemas.quota import QuotaCheckBody, QuotaCheckRead, QuotaRead
from core.errors import PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized
from services.generation.drafts import is_metered, quota_identity
from services.providers.errors import InvalidApiKey
from services.quota.models import mode_key

reads = Router(prefix="/api/quota", tags=["quota"], route_class=LeanRoute)
router = Router(prefix="/api/quota", tags=["quota"])


@reads.get(
    "",
    response_model=QuotaRead,
    responses=errors(Unauthorized, InvalidApiKey, RateLimited),
    dependencies=[Security(BEARER), Depends(key_documented)],
)
async def read_quota(request: Request) -> Response:
    """The day's pool and the caller's own limits."""
    services = services_of(request)
    caller = await reading_caller(request, await BEARER(request))
    own_key = await key_beside(services, caller, request.headers.get("x-api-key"))
    metered = services.settings.quota.trial_enabled and is_metered(caller, own_key is not None)
    return Response(
        QuotaRead.json_of(await services.quota.status(quota_identity(caller), metered=metered)),
        media_type="application/json",
    )


@router.post("/check", responses=errors(Unauthorized, InvalidApiKey, PayloadTooLarge, RequestTimeout, RateLimited))
async def check_quota(
    body: QuotaCheckBody, caller: CurrentCaller, own_key: KeyBeside, services: Services
) -> QuotaCheckRead:
    """Would a generation be let through now? Takes nothing."""
    identity = quota_identity(caller)
    resolution = body.resolution or services.settings.defaults.default_resolution
    if not is_metered(caller, own_key is not None):
        status = await services.quota.status(identity, metered=False)
        return QuotaCheckRead(can_generate=True, quota_info=QuotaRead.of(status))
    if not (services.settings.quota.trial_enabled and services.providers.has_trial):
        status = await services.quota.status(identity, metered=False)
        return QuotaCheckRead(can_generate=False, reason="api_key_required", quota_info=QuotaRead.of(status))
    reason, status = await services.quota.check(identity, mode_key(body.mode, resolution), body.count)
    return QuotaCheckRead(can_generate=reason is None, reason=reason, quota_info=QuotaRead.of(status))
