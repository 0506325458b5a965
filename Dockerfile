# The command line in a container.
#
#   docker build -t emerseg .                                                               for processors
#   docker build -t emerseg --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .  for NVIDIA GPUs
#   docker run --rm [--gpus all] -v "$PWD:/data" emerseg segment photos --labels "dog, grass" --preset mini --output out
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Its builds of torch are preferred to PyPI's, as local versions (2.6.0+cpu). Those for processors are much smaller.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras of pyproject.toml, comma-separated, such as "serve,parquet".
ARG EXTRAS=heic

WORKDIR /opt/emerseg
COPY . .
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" ".[${EXTRAS}]"

# Weights from the hub, and text embeddings: give it a volume to keep them.
ENV HF_HOME=/cache/huggingface EMERSEG_CACHE=/cache/emerseg
WORKDIR /data
ENTRYPOINT ["emerseg"]
