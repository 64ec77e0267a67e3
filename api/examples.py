"""An example of each answer, for the OpenAPI document; a test holds them against the schemas."""

from typing import Any

_TIME = "2026-01-31T12:00:00.000Z"
_LINK = "https://images.example/api/images/img_01kga0000000abcdefghjkmnpq"
_SIGNED = "exp=1769864400&sig=Jx0vWm6l3Wm4dS4vX2tQ1A"

_USER: dict[str, Any] = {
    "id": "usr_01kga0000000abcdefghjkmnpq",
    "login": None,
    "name": None,
    "email": None,
    "avatar_url": None,
    "role": "guest",
    "user_folder_id": "5f4dcc3b5aa765d6",
    "created_at": _TIME,
}
_ACCOUNT: dict[str, Any] = {
    **_USER,
    "login": "ada",
    "name": "Ada",
    "email": "ada@example.org",
    "role": "user",
    "github_id": 583231,
    "blocked": False,
    "blocked_at": None,
}
_IMAGE: dict[str, Any] = {
    "id": "img_01kga0000000abcdefghjkmnpq",
    "prompt": "A lighthouse at dusk, watercolour",
    "image_url": f"{_LINK}?{_SIGNED}",
    "thumbnail_url": f"{_LINK}/thumbnail?{_SIGNED}",
    "mode": "basic",
    "settings": {"aspect_ratio": "16:9", "resolution": "1K"},
    "provider": "gemini",
    "model": "gemini-3-pro-image",
    "duration": 8.214,
    "created_at": _TIME,
    "session_id": None,
    "chat_index": None,
    "task_id": None,
    "is_favorite": False,
    "width": 1376,
    "height": 768,
    "size": 1760412,
    "mime_type": "image/png",
}
_ENTRY = {**_IMAGE, "match": "exact", "group_size": None}
_QUOTA: dict[str, Any] = {
    "is_trial_mode": True,
    "global": {"used": 12, "limit": 50, "remaining": 38},
    "modes": {"basic_1k": {"name": "Basic (1K/2K)", "used": 2, "limit": 30, "remaining": 28, "cost": 1}},
    "guest_share": {"used": 2, "limit": 10, "remaining": 8},
    "cooldown": {"active": False, "remaining_seconds": 0.0},
    "resets_at": "2026-02-01T00:00:00.000Z",
}

_SERVICE_KEY: dict[str, Any] = {
    "id": "key_01kga0000000abcdefghjkmnpq",
    "name": "nightly posters",
    "masked": "nbk_****x4Tg",
    "scopes": ["generate", "read"],
    "expires_at": None,
    "daily_points": 10,
    "created_at": _TIME,
    "last_used_at": None,
}

_TASK = "task_01kga0000000abcdefghjkmnpq"

# What a stream of events looks like.
EVENTS = f"""retry: 2000

id: 1769860800000000417
event: progress
data: {{"task_id":"{_TASK}","type":"progress","percent":40,"message":"","timestamp":"{_TIME}","data":{{}}}}

event: heartbeat
data: {{"task_id":"{_TASK}","type":"heartbeat","percent":40,"message":"","timestamp":"{_TIME}","data":{{}}}}

"""

# And that of a task that is started and watched in one call.
_POLL = f"https://images.example/api/v1/tasks/{_TASK}"
_TOLD = f'{{"status":"pending","poll_url":"{_POLL}","events_url":"{_POLL}/events","estimated_duration":10}}'
EXECUTION = f"""retry: 2000

event: heartbeat
data: {{"task_id":"{_TASK}","type":"heartbeat","percent":0,"message":"accepted","timestamp":"{_TIME}","data":{_TOLD}}}

id: 1769860800000000417
event: started
data: {{"task_id":"{_TASK}","type":"started","percent":0,"message":"","timestamp":"{_TIME}","data":{{"total":1}}}}

"""

_ITEM: dict[str, Any] = {
    "index": 0,
    "status": "completed",
    "image_url": _IMAGE["image_url"],
    "thumbnail_url": _IMAGE["thumbnail_url"],
    "mime_type": "image/png",
    "width": 1376,
    "height": 768,
    "duration": 8.214,
    "history_id": _IMAGE["id"],
    "error": None,
}
_TASK_READ: dict[str, Any] = {
    "task_id": _TASK,
    "kind": "generate",
    "status": "processing",
    "progress": 50,
    "total": 2,
    "completed": 1,
    "results": [_ITEM],
    "error": None,
    "client_job_id": "order-17",
    "created_at": _TIME,
    "started_at": _TIME,
    "completed_at": None,
    "attempts": 1,
}

_ADMIN_TASK: dict[str, Any] = {
    "task_id": _TASK,
    "user_id": _USER["id"],
    "kind": "generate",
    "status": "pending",
    "waits_for": "worker",
    "provider": "gemini",
    "model": "gemini-3-pro-image",
    "resolution": "1K",
    "uses_own_key": False,
    "service_key_id": None,
    "progress": 50,
    "total": 2,
    "completed": 1,
    "error_code": None,
    "round": 1,
    "attempts": 2,
    "deaths": 1,
    "worker": None,
    "created_at": _TIME,
    "queued_at": _TIME,
    "started_at": _TIME,
    "completed_at": None,
}

_CHECK: dict[str, Any] = {
    "check_id": "mod_01kga0000000abcdefghjkmnpq",
    "checked_at": _TIME,
    "user_id": _USER["id"],
    "request_id": "req_01kga0000000abcdefghjkmnpq",
    "mode": "basic",
    "prompt_sha256": "5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99",
    "prompt": None,
    "decision": "blocked",
    "layer": "ai",
    "category": "violence",
    "layers": [
        {"layer": "keyword", "decision": "passed", "category": None, "duration_ms": 0.021},
        {"layer": "ai", "decision": "blocked", "category": "violence", "duration_ms": 640.5},
    ],
    "duration_ms": 640.521,
}

_PROMPT: dict[str, Any] = {
    "id": "prm_01kga0000000abcdefghjkmnpq",
    "title": "Harbour at dusk",
    "prompt": _IMAGE["prompt"],
    "category": "landscape",
    "lang": None,
    "tags": ["sea", "watercolour"],
    "is_favorite": False,
    "is_mine": True,
    "source": "user",
    "created_at": _TIME,
}

_MESSAGE = "msg_01kga0000000abcdefghjkmnpq"
_TASK_DETAIL: dict[str, Any] = {
    **_TASK_READ,
    "status": "completed",
    "progress": 100,
    "completed": 2,
    "results": [_ITEM, {**_ITEM, "index": 1}],
    "completed_at": _TIME,
    "webhook": {
        "callback_url": "https://images.example/hooks",
        "state": "pending",
        "webhook_id": _MESSAGE,
        "next_try_at": "2026-01-31T12:00:05.000Z",
        "attempts": [
            {
                "webhook_id": _MESSAGE,
                "number": 1,
                "at": _TIME,
                "seconds": 0.214,
                "status": 503,
                "error": None,
                "answer": "back in a minute",
            }
        ],
    },
}

_CHAT = "chat_01kga0000000abcdefghjkmnpq"
_SAID: dict[str, Any] = {
    "role": "user",
    "content": "A lighthouse at dusk",
    "image_url": None,
    "thumbnail_url": None,
    "thinking": None,
    "timestamp": _TIME,
    "history_id": None,
    "image_deleted": False,
    "attachments": [{"mime_type": "image/png", "width": 640, "height": 480, "size": 48213}],
}
_ANSWERED: dict[str, Any] = {
    **_SAID,
    "role": "assistant",
    "content": "Here is your lighthouse.",
    "image_url": _IMAGE["image_url"],
    "thumbnail_url": _IMAGE["thumbnail_url"],
    "history_id": _IMAGE["id"],
    "attachments": [],
}
_CHAT_READ: dict[str, Any] = {
    "session_id": _CHAT,
    "title": "A lighthouse at dusk",
    "created_at": _TIME,
    "aspect_ratio": "16:9",
    "messages": [_SAID, _ANSWERED],
}

# By the name of the schema.
EXAMPLES: dict[str, Any] = {
    "AuthConfigRead": {"github": False, "local": False, "guest": True, "trial": True, "languages": ["en", "zh"]},
    "UserRead": _USER,
    "TokensRead": {
        "access_token": "eyJhbGciOi…",
        "refresh_token": "kq3…",
        "token_type": "bearer",
        "expires_in": 900,
        "user": _USER,
    },
    "SessionsRead": {
        "sessions": [
            {
                "id": "ses_01kga0000000abcdefghjkmnpq",
                "created_at": _TIME,
                "last_active": _TIME,
                "user_agent": "Mozilla/5.0",
                "address": "203.0.113.5",
                "current": True,
            }
        ]
    },
    "GitHubLoginRead": {"redirect_url": "https://github.com/login/oauth/authorize?…", "state": "hV0…"},
    "OwnKeyRead": {"configured": True, "masked": "****9f3Q", "provider": "gemini"},
    "ServiceKeysRead": {"service_keys": [_SERVICE_KEY]},
    "NewServiceKeyRead": {**_SERVICE_KEY, "key": "nbk_3Q…x4Tg"},
    "AccountRead": _ACCOUNT,
    "AccountsRead": {"items": [_ACCOUNT], "total": 1, "limit": 20, "offset": 0, "has_more": False},
    "AdminTasksRead": {"items": [_ADMIN_TASK], "total": 1, "limit": 20, "offset": 0, "has_more": False},
    "AdminTaskRead": _ADMIN_TASK,
    "ChecksRead": {"items": [_CHECK], "total": 1, "limit": 20, "offset": 0, "has_more": False},
    "Success": {"success": True},
    "Envelope_GeneratedRead_": {
        "success": True,
        "data": {
            "image_url": _IMAGE["image_url"],
            "thumbnail_url": _IMAGE["thumbnail_url"],
            "image_base64": None,
            "mime_type": "image/png",
            "width": 1376,
            "height": 768,
            "text_response": "Here is your lighthouse.",
            "thinking": None,
            "search_sources": None,
            "provider": "gemini",
            "model": "gemini-3-pro-image",
            "duration": 8.214,
            "history_id": _IMAGE["id"],
        },
        "execution_time_ms": 8302,
    },
    "Envelope_EstimateRead_": {
        "success": True,
        "data": {"unit_cost": 0.134, "total_cost": 0.536, "currency": "USD"},
        "execution_time_ms": 1,
    },
    "Envelope_BatchRead_": {
        "success": True,
        "data": {name: _TASK_READ[name] for name in ("task_id", "status", "total", "completed", "results")},
        "execution_time_ms": 12,
    },
    "Envelope_TaskRead_": {"success": True, "data": _TASK_READ, "execution_time_ms": 2},
    "Envelope_TaskDetailRead_": {"success": True, "data": _TASK_DETAIL, "execution_time_ms": 2},
    "Envelope_TasksRead_": {
        "success": True,
        "data": {"items": [_TASK_READ], "total": 1, "limit": 20, "offset": 0, "has_more": False},
        "execution_time_ms": 3,
    },
    "Envelope_TaskStartedRead_": {
        "success": True,
        "data": {
            "task_id": _TASK,
            "status": "pending",
            "poll_url": _POLL,
            "events_url": f"{_POLL}/events",
            "estimated_duration": 10,
        },
        "execution_time_ms": 14,
    },
    "Envelope_Success_": {"success": True, "data": {"success": True}, "execution_time_ms": 5},
    "NewChatRead": {"session_id": _CHAT, "created_at": _TIME, "aspect_ratio": "16:9", "title": None},
    "ChatsRead": {
        "sessions": [
            {
                "session_id": _CHAT,
                "title": "A lighthouse at dusk",
                "created_at": _TIME,
                "message_count": 2,
                "last_message_at": _TIME,
                "preview_prompt": "A lighthouse at dusk",
                "preview_image_url": _IMAGE["thumbnail_url"],
            }
        ],
        "total": 1,
        "limit": 20,
        "offset": 0,
        "has_more": False,
    },
    "ChatRead": _CHAT_READ,
    "ChatExportRead": {**_CHAT_READ, "exported_at": _TIME},
    "ChatAnswerRead": {
        **_ANSWERED,
        "duration": 8.214,
        "provider": "gemini",
        "model": "gemini-3-pro-image",
        "dropped_images": 0,
        "dropped_turns": 0,
        "deleted_images": 0,
    },
    "HistoryRead": {
        "items": [_ENTRY],
        "total": 1,
        "total_is_capped": False,
        "limit": 20,
        "offset": 0,
        "has_more": False,
    },
    "ImageDetailRead": {**_IMAGE, "text_response": None, "thinking": None, "search_sources": None},
    "DeletedRead": {"success": True, "deleted_count": 1, "not_found": ["img_01kga0000000zyxwvtsrqpnmkj"]},
    "ClearedRead": {"success": True, "deleted_count": 42},
    "PromptRead": _PROMPT,
    "PromptsRead": {
        "prompts": [_PROMPT],
        "categories": [{"category": "landscape", "count": 11}],
        "total": 1,
        "limit": 20,
        "offset": 0,
        "has_more": False,
    },
    "DraftsRead": {"prompts": [{name: _PROMPT[name] for name in ("title", "prompt", "tags")}]},
    "WrittenRead": {"prompt": "A lighthouse on a basalt cliff at dusk, its beam just lit, watercolour on rough paper"},
    "QuotaRead": _QUOTA,
    "QuotaCheckRead": {"can_generate": True, "reason": None, "quota_info": _QUOTA},
    "EventsTokenRead": {
        "token": "usr_01kga0000000abcdefghjkmnpq.1769947200.5f4dcc3b5aa765d61d8327deb882cf99",
        "expires_at": "2026-02-01T12:00:00.000Z",
    },
    "HealthRead": {"status": "healthy", "timestamp": _TIME},
    "HealthDetailRead": {
        "status": "healthy",
        "components": {"redis": {"status": "healthy", "latency_ms": 0.3, "last_check": _TIME}},
        "version": "0.1.0",
        "uptime_seconds": 86400.0,
    },
}
