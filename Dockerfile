# syntax=docker/dockerfile:1
# The build needs the compiler image and crates.io. The runtime image has only libc, libgcc and a list
# of certificate authorities, and no shell. Both base images can be replaced with --build-arg; the
# builder's libc must not be newer than the runtime's.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /src

# Builds the dependencies first, in a layer that is reused until a manifest or Cargo.lock changes. Every
# target in the manifests gets an empty source file; their build results are removed afterwards.
COPY Cargo.toml Cargo.lock ./
COPY benches/instructions/Cargo.toml benches/instructions/Cargo.toml
COPY crates/connectors/Cargo.toml crates/connectors/Cargo.toml
COPY crates/lifecycle/Cargo.toml crates/lifecycle/Cargo.toml
COPY crates/market-api/Cargo.toml crates/market-api/Cargo.toml
COPY crates/market-sim/Cargo.toml crates/market-sim/Cargo.toml
COPY crates/stock/Cargo.toml crates/stock/Cargo.toml
COPY crates/stock-import/Cargo.toml crates/stock-import/Cargo.toml
COPY crates/strict-http/Cargo.toml crates/strict-http/Cargo.toml
COPY fuzz/Cargo.toml fuzz/Cargo.toml
# hadolint ignore=SC2046
RUN mkdir -p src benches/instructions/src tests fuzz/src $(printf '%s/src ' crates/*) \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs benches/instructions/src/main.rs fuzz/src/main.rs $(printf '%s/src/lib.rs ' crates/*) \
    $(sed -n '/^\[\[bench\]\]/,/^name/s|^name *= *"\(.*\)"|benches/\1.rs|p' Cargo.toml) \
    $(sed -n '/^\[\[test\]\]/,/^name/s|^name *= *"\(.*\)"|tests/\1.rs|p' Cargo.toml) \
 && cargo build --profile dist --locked --bin stockbridge \
 && cargo clean --profile dist --locked -p stockbridge $(printf -- '-p %s ' $(ls crates))

# The program does not need the other targets, so they stay empty. It embeds some fixtures.
COPY fixtures fixtures
COPY crates crates
COPY src src
COPY templates templates
RUN cargo build --profile dist --locked --bin stockbridge \
 && install -D -m 0755 target/dist/stockbridge /out/stockbridge \
 && install -d -m 0700 /out/data
# Reduces the size to a quarter. Backtraces still have function names.
RUN strip --strip-debug /out/stockbridge

# hadolint ignore=DL3006
FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="stockbridge" \
      org.opencontainers.image.description="Carries a seller's stock across the end of Yandex Market's push API" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /out/stockbridge /usr/local/bin/stockbridge
# A new volume gets its owner from this directory.
COPY --from=build --chown=65532:65532 /out/data /data
# These variables override the same settings in the file.
ENV STOCKBRIDGE_CONFIG=/etc/stockbridge/config.toml \
    STOCKBRIDGE_STORE=/data \
    STOCKBRIDGE_LISTEN=0.0.0.0:8080 \
    STOCKBRIDGE_OPS_LISTEN=127.0.0.1:9090
USER 65532:65532
# SQLite may create temporary files in the working directory.
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/stockbridge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/stockbridge"]
CMD ["serve"]
