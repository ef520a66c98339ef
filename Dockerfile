# sipbridge in a container. SIP and RTP want many UDP ports and true source addresses: run it on the host's network.
#
#   docker build -t sipbridge .
#   docker run --network host -v "$PWD/config:/etc/sipbridge:ro" -v sipbridge:/var/lib/sipbridge -e OPENAI_API_KEY sipbridge
#
# The configuration is only read; history, outbox, versions of tenants and recordings are below /var/lib/sipbridge.
#
# scripts/check-dockerfile.sh runs these steps in a plain folder where there is no container engine.

FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY sipbridge ./sipbridge
# With the media plane compiled (a call costs a fifth less), and what MCP servers and PostgreSQL are reached with.
RUN python3 -m venv /opt/sipbridge \
    && HATCH_BUILD_HOOKS_ENABLE=1 /opt/sipbridge/bin/pip install --no-cache-dir --disable-pip-version-check ".[fast,mcp,postgres]"

FROM debian:trixie-slim
# espeak-ng is for the embedded provider: it speaks the texts that do not ship as recordings.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates espeak-ng python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/sipbridge --create-home --shell /usr/sbin/nologin sipbridge
COPY --from=build /opt/sipbridge /opt/sipbridge
COPY config /etc/sipbridge
ENV PATH=/opt/sipbridge/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SIPBRIDGE_STATE=/var/lib/sipbridge
WORKDIR /var/lib/sipbridge
USER sipbridge
EXPOSE 5060/udp 5060/tcp
# An OPTIONS to the node itself. Give another address where `sip.listen` has no 127.0.0.1:5060.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-m", "sipbridge.health", "127.0.0.1:5060"]
ENTRYPOINT ["sipbridge"]
CMD ["serve", "-c", "/etc/sipbridge/sipbridge.yaml"]
