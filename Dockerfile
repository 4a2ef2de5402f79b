FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY events events
COPY actors actors
COPY gateway gateway
COPY command command
COPY testing testing
COPY protos protos
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[nkeys]'

FROM python:3.11-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -rf /wheels && useradd --uid 65532 --no-create-home natsgate
USER 65532
WORKDIR /app
EXPOSE 50051
# For `natsgate serve`; containers that run `natsgate work` switch it off (--no-healthcheck).
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["natsgate", "healthcheck"]
ENTRYPOINT ["natsgate"]
CMD ["--help"]
