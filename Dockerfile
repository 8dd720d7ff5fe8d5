# explaineval in a container: non-root, cache and runs as volumes.
#   docker build -t explaineval .
#   docker run --rm -v "$PWD/cache:/data/cache" -v "$PWD/runs:/data/runs" -e OPENAI_API_KEY explaineval run --task nli --model openai/gpt-4o-mini
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/run.txt requirements/
RUN python -m venv /opt/explaineval \
 && /opt/explaineval/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY prompts prompts
RUN /opt/explaineval/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 explaineval \
 && install -d -o explaineval -g explaineval /data /data/cache /data/runs
COPY --from=build /opt/explaineval /opt/explaineval
ENV PATH="/opt/explaineval/bin:$PATH" PYTHONUNBUFFERED=1
USER explaineval
WORKDIR /data
VOLUME ["/data/cache", "/data/runs"]
ENTRYPOINT ["explaineval"]
CMD ["--help"]
