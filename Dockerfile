# The demo on a CPU: docker build -t ofa_tvm . && docker run --rm -it ofa_tvm
FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ gcc libstb-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ofa_tvm
COPY . .
RUN make setup
CMD ["make", "demo"]
