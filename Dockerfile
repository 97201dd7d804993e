# One image for every service of docker-compose.yaml but PostgreSQL: this project with the packages of uv.lock.
FROM python:3.12-slim AS build
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /opt/sluice
# The packages are a layer of their own: a change of code does not install them again.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --group embedded --no-install-project
COPY README.md LICENSE ./
COPY include ./include
COPY infra ./infra
COPY plugins ./plugins
COPY dags ./dags
# Who runs the image may not write here, so the byte code is made now.
RUN uv sync --frozen --no-dev --group embedded \
    && .venv/bin/python -m compileall -q include plugins dags

FROM python:3.12-slim
# A named volume takes the owner of the folder that it covers.
RUN useradd --uid 50000 --create-home sluice \
    && install --directory --owner=sluice --group=sluice --mode=700 /var/lib/sluice
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SLUICE_HOME=/var/lib/sluice
WORKDIR /opt/sluice
USER sluice
CMD ["sluice", "--help"]
