# JupyterLab with the kernel and the tutorials: docker build -t firstframe . && docker run --rm -p 127.0.0.1:8888:8888 firstframe
# Binder and Codespaces use it as well, which is why everything belongs to a user with the id 1000.
FROM node:22.23.3-bookworm-slim@sha256:43ac6c60b8f89723f746e8a92ce91abd5017e627ce1ddfe4238355d3a30b772c AS base
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates fonts-dejavu-core g++ git make python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
USER node
ENV HOME=/home/node
WORKDIR /home/node/firstframe
COPY --chown=node package.json package-lock.json .npmrc ./
RUN npm ci
COPY --chown=node . .
RUN npm run build && npx firstframe engine install tensorflow && npx firstframe lab --own --setup
# Binder starts JupyterLab itself, and finds the kernel by the second line.
ENV PATH=/home/node/firstframe/.venv/bin:$PATH \
    JUPYTER_PATH=/home/node/firstframe/.firstframe/share/jupyter

# The kernel that a gateway starts: docker build --target kernel -t firstframe-kernel .
FROM base AS kernel
CMD ["node", "/home/node/firstframe/dist/src/cli/main.js", "kernel", "launch"]

FROM base
EXPOSE 8888
CMD ["node", "dist/src/cli/main.js", "lab", "--", "--ip=0.0.0.0", "--no-browser"]
