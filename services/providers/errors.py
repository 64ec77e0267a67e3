"""What a provider's failure means to the caller. None of it carries an upstream body."""

from core.errors import AppError

RETRY_AFTER_SECONDS = 10


class ProviderError(AppError):
    """Base of the failures of a call to a provider; `retryable` ones are tried again."""

    retryable = False


class _Passing(ProviderError):
    """A failure that may be gone in a while."""

    retryable = True

    def __init__(self, private_message: str = "") -> None:
        super().__init__(private_message, retry_after=RETRY_AFTER_SECONDS)


class ProviderOverloaded(_Passing):
    """The provider says that it is overloaded."""

    code = "PROVIDER_OVERLOADED"
    status = 503
    type = "overloaded"


class ProviderUnavailable(_Passing):
    """The provider answers with an error of its own, or with something that is no answer."""

    code = "PROVIDER_UNAVAILABLE"
    status = 503
    type = "unavailable"

    def __init__(self, private_message: str = "", *, retryable: bool = True) -> None:
        super().__init__(private_message)
        self.retryable = retryable


class ProviderTimeout(_Passing):
    """The provider did not answer in time."""

    code = "PROVIDER_TIMEOUT"
    status = 504
    type = "timeout"


class ProviderRateLimited(_Passing):
    """The provider limits the key's requests; trying again at once would only add to it."""

    code = "PROVIDER_RATE_LIMITED"
    status = 503
    type = "rate_limited"
    retryable = False


class ProviderConnection(_Passing):
    """The connection failed or broke off."""

    code = "PROVIDER_CONNECTION"
    status = 502
    type = "connection"


class ProviderRejected(ProviderError):
    """The provider refuses the request itself; `reason` is its own short reason, cleaned."""

    code = "PROVIDER_REJECTED"
    status = 400
    type = "provider_rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(f"rejected: {reason}", reason=reason)


class InvalidApiKey(ProviderError):
    """The provider refused the key."""

    code = "INVALID_API_KEY"
    status = 400
    type = "invalid_key"


class NoImage(ProviderError):
    """The model answered without an image; what it said instead is in `text_response`."""

    code = "NO_IMAGE"
    status = 502
    type = "no_image"

    def __init__(self, text_response: str | None, finish_reason: str | None) -> None:
        super().__init__(
            f"no image, finish reason {finish_reason}", text_response=text_response, finish_reason=finish_reason
        )


class UnusableAnswer(ProviderError):
    """The text model answered twice with something else than what it was asked for."""

    code = "UNUSABLE_ANSWER"
    status = 502
    type = "unusable_answer"


class ApiKeyRequired(AppError):
    """No own key, and there is none of the operator's that the caller may use."""

    code = "API_KEY_REQUIRED"
    status = 400
    type = "api_key_required"

    def __init__(self, provider: str, hint: str = "send your own key in X-API-Key") -> None:
        super().__init__(provider=provider, hint=hint)
