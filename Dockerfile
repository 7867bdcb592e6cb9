# syntax=docker/dockerfile:1
# The build needs the compiler's image and crates.io; the runtime needs libc, libgcc and a list
# of certificate authorities, and has no shell. Both bases can be replaced by --build-arg; the
# builder's libc must not be newer than the runtime's.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /src

# The dependencies first, in a layer that lasts until a manifest or Cargo.lock change. Empty
# files stand in for every target the manifests name, and what was built of them goes away.
COPY Cargo.toml Cargo.lock ./
COPY fuzz/Cargo.toml fuzz/Cargo.toml
# hadolint ignore=SC2046
RUN mkdir -p src benches tests fuzz/src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs fuzz/src/main.rs \
    $(sed -n '/^\[\[bench\]\]/,/^name/s|^name *= *"\(.*\)"|benches/\1.rs|p' Cargo.toml) \
    $(sed -n '/^\[\[test\]\]/,/^name/s|^name *= *"\(.*\)"|tests/\1.rs|p' Cargo.toml) \
 && cargo build --profile dist --locked --bin stockbridge \
 && cargo clean --profile dist --locked -p stockbridge

# The other targets stay empty: the program needs none of them. Some fixtures are part of it.
COPY fixtures fixtures
COPY src src
RUN cargo build --profile dist --locked --bin stockbridge \
 && install -D -m 0755 target/dist/stockbridge /out/stockbridge \
 && install -d -m 0700 /out/data
# A quarter of the size, and a backtrace still names its functions.
RUN strip --strip-debug /out/stockbridge

# hadolint ignore=DL3006
FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="stockbridge" \
      org.opencontainers.image.description="Carries a seller's stock across the end of Yandex Market's push API" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /out/stockbridge /usr/local/bin/stockbridge
# A new volume takes its owner from here.
COPY --from=build --chown=65532:65532 /out/data /data
# These come before the same settings in the file.
ENV STOCKBRIDGE_CONFIG=/etc/stockbridge/config.toml \
    STOCKBRIDGE_STORE=/data \
    STOCKBRIDGE_LISTEN=0.0.0.0:8080 \
    STOCKBRIDGE_OPS_LISTEN=127.0.0.1:9090
USER 65532:65532
# Should SQLite ever want a temporary file, this is where it may have one.
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/stockbridge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/stockbridge"]
CMD ["serve"]
