# The images of the kit, from one pinned base: server (llama-server), sandbox (where tool calls run), collector (the package).
#
# scripts/nox builds them (agenttrace/host/images.py). By hand: docker buildx build --target server -t agenttrace-server:0.1.0 .
# Secrets, none required: ca (certificates to trust), apt-source (another Debian mirror). Nothing of them stays in an image.

ARG BASE=debian:forky-20260918-slim@sha256:7bb96d9b4ccd7f46f54853c258a56df0c6b628a63e65c2317959da18fd36932c

FROM ${BASE} AS base
ARG BASE_ORIGIN=registry
ARG SNAPSHOT=20261030T140000Z
ENV LANG=C.UTF-8
# Both kinds of base are brought to the same archive state and the same habits of dpkg and apt.
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-* \
    && printf 'path-exclude /usr/share/%s/*\n' doc groff info linda lintian locale man >/etc/dpkg/dpkg.cfg.d/docker \
    && printf 'path-include /usr/share/doc/*/copyright\n' >>/etc/dpkg/dpkg.cfg.d/docker \
    && sh /mnt/docker/apt-install.sh --upgrade \
    && mkdir /etc/agenttrace && echo "${BASE_ORIGIN}" >/etc/agenttrace/base-origin

FROM base AS python
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh python3

FROM base AS server
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh llama.cpp-tools=1:0.7.0+dfsg-2 \
    && sh /mnt/docker/environment.sh \
    && echo 'llama:x:10001:10001::/nonexistent:/usr/sbin/nologin' >>/etc/passwd && echo 'llama:x:10001:' >>/etc/group \
    && install -d -o 10001 -g 10001 /models
LABEL org.agenttrace.project=agenttrace
ENV LLAMA_ARG_HOST=0.0.0.0 LLAMA_ARG_PORT=8080
USER 10001:10001
EXPOSE 8080
# /health answers 503 until the weights are loaded. bash speaks HTTP well enough for that; no other client is in the image.
HEALTHCHECK --interval=5s --timeout=3s --retries=3 --start-period=120s --start-interval=500ms \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$LLAMA_ARG_PORT && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["llama-server"]

# The compiled call helper: static, so that the sandbox needs neither compiler nor headers; of musl, which starts sooner.
FROM base AS helper
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh gcc libc6-dev musl-tools
RUN --mount=type=bind,source=agenttrace/sandbox/helper,target=/mnt/helper \
    CC=musl-gcc sh /mnt/helper/build.sh /call-helper && /call-helper --probe \
    && { gcc --version | head -n 1 && cd /mnt/helper && sha256sum *; } | sha256sum \
        | sed 's|^|built /opt/agenttrace/call-helper |; s| *-$||' >/built.txt

FROM python AS sandbox
ARG SNAPSHOT=20261030T140000Z
# What the tools find. ncal has cal, bsdextrautils has column and hexdump, bc and jq are what models reach for.
# libfaketime is no tool: the runner preloads it where a task set pins the clock.
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh \
        bash \
        bc \
        bsdextrautils \
        bzip2 \
        coreutils \
        cpio \
        diffutils \
        file \
        findutils \
        gawk \
        grep \
        gzip \
        hostname \
        jq \
        less \
        libfaketime \
        mawk \
        ncal \
        patch \
        procps \
        psmisc \
        python-is-python3 \
        sed \
        tar \
        tree \
        unzip \
        util-linux \
        xz-utils \
        zip \
    && echo 'agent:x:20000:20000::/testdata:/bin/bash' >>/etc/passwd \
    && printf 'agent:x:20000:\nagenttrace:x:20999:\n' >>/etc/group
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    --mount=type=bind,source=agenttrace/fixture,target=/mnt/fixture \
    --mount=type=bind,source=agenttrace/sandbox/runner,target=/mnt/sandbox/runner \
    --mount=type=bind,source=agenttrace/sandbox/tools,target=/mnt/sandbox/tools \
    --mount=type=bind,source=agenttrace/sandbox/policies.toml,target=/mnt/sandbox/policies.toml \
    --mount=type=bind,from=helper,source=/call-helper,target=/mnt/sandbox/call-helper \
    --mount=type=bind,from=helper,source=/built.txt,target=/mnt/sandbox/built.txt \
    cd /opt && umask 022 && mkdir agenttrace && cp -R --no-preserve=all /mnt/sandbox/runner /mnt/sandbox/tools agenttrace/ \
    && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash agenttrace/runner \
    && chmod -R u=rwX,go= agenttrace/runner && chmod -R u=rwX,go=rX agenttrace/tools \
    && install -m 0700 /mnt/sandbox/call-helper agenttrace/call-helper \
    && install -m 0600 /mnt/sandbox/policies.toml agenttrace/policies.toml \
    && install -d -m 0700 agenttrace/fixtures \
    && for name in demo empty nl2bash; do \
        python3 -I -S -B /mnt/fixture/build.py "$name" "/opt/agenttrace/fixtures/$name" || exit 1; \
    done \
    && install -d -m 0755 -o 20000 -g 20000 /testdata && install -d -m 0750 -g 20999 /run/agenttrace \
    && install -d -m 0755 /run/call && install -d -o 10001 -g 20999 -m 0750 /trees \
    && install -m 0644 /mnt/sandbox/built.txt /etc/agenttrace/ \
    && sh /mnt/docker/environment.sh /opt/agenttrace
LABEL org.agenttrace.project=agenttrace
WORKDIR /testdata
ENTRYPOINT ["python3", "-I", "-S", "-B", "/opt/agenttrace/runner", "--wipe", "/tmp", "--wipe", "/var/tmp", "--wipe", "/dev/shm", "--wipe", "/dev/mqueue"]

# The policy execution_free (agenttrace/sandbox/policies.toml): the same runner, and no program but the allowed ones.
FROM sandbox AS execution-free
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh git xxd
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    install -m 0600 /mnt/docker/execution_free.py /opt/agenttrace/ \
    && sh /mnt/docker/environment.sh /opt/agenttrace \
    && python3 -I -B /mnt/docker/execution_free.py /opt/agenttrace/policies.toml

# From nothing, so that what was taken out is not in a lower layer either.
FROM scratch AS sandbox-execution-free
COPY --from=execution-free / /
LABEL org.agenttrace.project=agenttrace
ENV LANG=C.UTF-8
WORKDIR /testdata
ENTRYPOINT ["/opt/agenttrace/private/python3", "-I", "-S", "-B", "/opt/agenttrace/runner", "--policy", "execution_free", "--path", "/usr/local/bin", "--shell", "/bin/bash", "--wipe", "/tmp", "--wipe", "/var/tmp", "--wipe", "/dev/shm", "--wipe", "/dev/mqueue"]

FROM python AS collector-build
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh ca-certificates python3-venv
# The compiled files check themselves against the source's hash, not its time stamp: equal in every build.
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    --mount=type=bind,source=requirements/collector.txt,target=/mnt/requirements.txt --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    sh /mnt/docker/install-wheels.sh /mnt/requirements.txt
COPY agenttrace /opt/agenttrace/lib/agenttrace
RUN chmod -R u=rwX,go=rX /opt/agenttrace \
    && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash /opt/agenttrace/lib

# Wheels in a layer of their own: it stays the same when only the package has changed.
FROM python AS collector
COPY --from=collector-build /opt/venv /opt/venv
COPY --from=collector-build /opt/agenttrace /opt/agenttrace
COPY --from=server /etc/agenttrace/environment.txt /etc/agenttrace/images/server.txt
COPY --from=server /etc/agenttrace/environment.sha256 /etc/agenttrace/images/server.sha256
COPY --from=sandbox /etc/agenttrace/environment.txt /etc/agenttrace/images/sandbox.txt
COPY --from=sandbox /etc/agenttrace/environment.sha256 /etc/agenttrace/images/sandbox.sha256
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    sh /mnt/docker/environment.sh /opt/agenttrace && cd /etc/agenttrace \
    && cp environment.txt images/collector.txt && cp environment.sha256 images/collector.sha256 \
    # A fresh named volume takes owner and mode from the first image that mounts it, whichever that is.
    && install -d -o 10001 -g 10001 /models && install -d -m 0750 -g 20999 /run/agenttrace \
    && install -d -o 10001 -g 20999 -m 0750 /trees
LABEL org.agenttrace.project=agenttrace
ENV HOME=/tmp PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/agenttrace/lib \
    PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1 PYTHONUNBUFFERED=1
USER 10002:10002
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "agenttrace"]

# What reads records: tables, figures, reports, other formats. It needs no network and no other service.
FROM python AS analysis-build
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker/apt-install.sh,target=/mnt/docker/apt-install.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh ca-certificates python3-venv
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    --mount=type=bind,source=requirements/analysis.txt,target=/mnt/requirements.txt --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    sh /mnt/docker/install-wheels.sh /mnt/requirements.txt

FROM python AS analysis
COPY --from=analysis-build /opt/venv /opt/venv
COPY --from=collector-build /opt/agenttrace /opt/agenttrace
RUN --mount=type=bind,source=docker,target=/mnt/docker sh /mnt/docker/environment.sh /opt/agenttrace
LABEL org.agenttrace.project=agenttrace
ENV HOME=/run/home MPLCONFIGDIR=/run/home/matplotlib HF_HUB_OFFLINE=1 PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/agenttrace/lib PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1 PYTHONUNBUFFERED=1
USER 10002:10002
ENTRYPOINT ["python", "-m", "agenttrace"]

# The collector of tasks over checkouts, and what makes their trees: git, and the libraries of published data sets.
FROM python AS rollouts
ARG SNAPSHOT=20261030T140000Z
RUN --mount=type=bind,source=docker,target=/mnt/docker \
    --mount=type=secret,id=ca --mount=type=secret,id=apt-source \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    sh /mnt/docker/apt-install.sh ca-certificates git \
    && install -d -o 10001 -g 20999 -m 0750 /trees && install -d -o 10001 -g 20999 -m 0700 /repositories \
    && install -d -o 10001 -g 10001 /models && install -d -m 0750 -g 20999 /run/agenttrace
COPY --from=analysis-build /opt/venv /opt/venv
COPY --from=collector-build /opt/agenttrace /opt/agenttrace
RUN --mount=type=bind,source=docker,target=/mnt/docker sh /mnt/docker/environment.sh /opt/agenttrace
COPY --from=server /etc/agenttrace/environment.sha256 /etc/agenttrace/images/server.sha256
COPY --from=sandbox-execution-free /etc/agenttrace/environment.txt /etc/agenttrace/images/sandbox.txt
COPY --from=sandbox-execution-free /etc/agenttrace/environment.sha256 /etc/agenttrace/images/sandbox.sha256
RUN cp /etc/agenttrace/environment.sha256 /etc/agenttrace/images/rollouts.sha256
LABEL org.agenttrace.project=agenttrace
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/agenttrace/lib PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1 PYTHONUNBUFFERED=1
USER 10002:10002
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "agenttrace"]
