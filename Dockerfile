# One image, run as `serve`, `record`, `work`, `migrate`: see deploy/compose.yaml and docs/operations.md.

FROM python:3.11-slim AS build
COPY deploy/requirements.txt /build/
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes -r /build/requirements.txt

FROM python:3.11-slim
RUN useradd --system --uid 10016 --create-home --home-dir /var/lib/dial16 dial16
COPY --from=build /venv /venv
COPY main.py /app/
COPY flows /app/flows
COPY storage /app/storage
COPY gateway /app/gateway
COPY deploy/wave.toml deploy/release.toml /app/deploy/
COPY deploy/sdmx /app/deploy/sdmx
# Byte code now: the service's user may not write here.
RUN /venv/bin/python -m compileall -q /app
WORKDIR /app
USER dial16
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    DIAL16_HOST=0.0.0.0 DIAL16_PORT=8016 DIAL16_DATA_DIR=/var/lib/dial16
EXPOSE 8016
STOPSIGNAL SIGTERM
# For `serve`; the other verbs listen on nothing and are run with their health check disabled.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['DIAL16_PORT'] + '/health/live', timeout=2)"]
ENTRYPOINT ["python", "main.py"]
CMD ["serve"]
