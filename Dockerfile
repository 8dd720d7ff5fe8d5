# explaineval in a container. Cache, runs and the service's data are mounted folders; any user id will do.
#   docker build -t explaineval .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/cache:/data/cache" -v "$PWD/runs:/data/runs" -e OPENAI_API_KEY \
#     explaineval run --task nli --model openai/gpt-4o-mini
# `--build-arg PARTS=run` leaves out the embedded model of `demo`.
FROM python:3.12-slim AS build
ARG PARTS=image
WORKDIR /src
COPY requirements/${PARTS}.txt requirements/
RUN python -m venv /opt/explaineval \
 && /opt/explaineval/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/${PARTS}.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY prompts prompts
RUN /opt/explaineval/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 explaineval \
 && install -d -m 1777 /data /data/cache /data/runs /data/service
COPY --from=build /opt/explaineval /opt/explaineval
# HOME: a user id that the image does not know has no home of its own.
ENV PATH="/opt/explaineval/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER explaineval
WORKDIR /data
VOLUME ["/data/cache", "/data/runs", "/data/service"]
EXPOSE 8765
ENTRYPOINT ["explaineval"]
CMD ["--help"]
