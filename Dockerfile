# The image of all parts: `docker run -e SECRET_KEY=… -v nbl:/data -p 8000:8000 nano-banana-lab` is the whole service;
# docker-compose.yml runs its parts one by one. See docs/operations.md.
FROM python:3.11-slim-bookworm AS build

WORKDIR /app
COPY requirements.lock ./
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin nbl \
    && install --directory --owner=nbl --group=nbl --mode=0700 /data
WORKDIR /app
COPY --from=build /app/.venv ./.venv
COPY api ./api
COPY core ./core
COPY i18n ./i18n
COPY migrations ./migrations
COPY scripts ./scripts
COPY services ./services
COPY web ./web
# The root may be read-only: what Python would compile at each start is compiled here.
RUN .venv/bin/python -m compileall -q api core i18n migrations scripts services

ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "scripts.healthcheck", "api"]
CMD ["python", "-m", "scripts.serve"]
