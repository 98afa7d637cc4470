# One image, three programs: proxy, controller, csi. Any base with python3 >= 3.12 and its venv module works.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS build
# Without columns in tracebacks, code is smaller, in the files and in the memory of each program.
ENV PYTHONNODEBUGRANGES=1
# pip's own settings, for networks with an index or a CA of their own; none of them reaches the image.
ARG PIP_INDEX_URL=""
ARG PIP_CERT=""
WORKDIR /app
COPY requirements.lock .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv venv \
 && venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --no-compile \
      -r requirements.lock \
 && venv/bin/python -m pip uninstall --quiet --yes pip \
# Remove 90 MB of generated models and calls. The programs use only the part of the library that reads kubeconfigs.
 && find venv/lib -path '*/kubernetes/*client/*' \( -path '*/models/*' -o -path '*/api/*' \) -name '*.py' ! -name __init__.py -delete \
 && venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash venv/lib
RUN mkdir /state
COPY image/ image/
COPY connector_store/ connector_store/
COPY addons/ addons/
COPY connector_controller/ connector_controller/
COPY connector_csi/ connector_csi/
COPY connectorctl/ connectorctl/
RUN venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      image connector_store addons connector_controller connector_csi connectorctl \
 && for name in connectorctl kubectl-connector; do \
      printf '#!/app/venv/bin/python\nfrom connectorctl.__main__ import main\nmain()\n' > "venv/bin/$name" && chmod 755 "venv/bin/$name"; \
    done

FROM ${BASE_IMAGE}
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="Kubernetes Connector" \
      org.opencontainers.image.description="Use a Kubernetes cluster without holding its credential" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /app /app
# Where no volume is mounted there, as by docker run, it is still the proxy's to write to.
COPY --from=build --chown=65532:65532 /state /var/lib/kubernetes-connector
ENV PATH=/app/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 \
    PYTHONNODEBUGRANGES=1 OPENSSL_CONF=/app/image/openssl.cnf HOME=/tmp
WORKDIR /app
# Numbers, so that kubelet sees that it is not root. The CSI driver mounts, and says runAsUser: 0 for itself.
USER 65532:65532
VOLUME /var/lib/kubernetes-connector
EXPOSE 8080 9091
ENTRYPOINT ["/app/venv/bin/python", "/app/image/entry.py"]
CMD ["proxy"]
