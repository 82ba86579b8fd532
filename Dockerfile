# syntax=docker/dockerfile:1

#   docker run -p 5672:5672 -v ringtail:/var/lib/ringtail ringtail
#
# The default profile of Docker and containerd refuses io_uring, so the broker serves with epoll. The
# host decides about io_uring, not the image:
#
# - seccomp: run with a profile that allows io_uring_setup, io_uring_enter and io_uring_register, or
#   with `--security-opt seccomp=unconfined`.
# - sysctl: kernel.io_uring_disabled must be 0 on the host (1 asks for CAP_SYS_ADMIN or the group
#   of kernel.io_uring_group, 2 forbids it).
# - memlock: each core's ring registers buffers, which counts against the locked memory of a
#   process. Run with `--ulimit memlock=-1` or some MiB a core.
#
# One descriptor is needed for each connection: `--ulimit nofile=500000:500000`.

FROM rust:1.95-slim-bookworm AS builder
# A C compiler for the allocator and for glommio, whose build script also calls git.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential git \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --package ringtail --bin ringtail \
 && cp target/release/ringtail /usr/local/bin/ringtail

FROM debian:bookworm-slim
RUN groupadd --system --gid 999 ringtail \
 && useradd --system --uid 999 --gid ringtail --home-dir /var/lib/ringtail --no-create-home \
      --shell /usr/sbin/nologin ringtail \
 && install --directory --owner=ringtail --group=ringtail --mode=0700 /var/lib/ringtail
COPY --from=builder /usr/local/bin/ringtail /usr/local/bin/ringtail
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/ringtail/
USER ringtail
WORKDIR /var/lib/ringtail
VOLUME /var/lib/ringtail
EXPOSE 5672
# The broker closes its connections and its log on SIGTERM.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/ringtail"]
