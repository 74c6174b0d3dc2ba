# The demo: the example shop, and the customers who use it. Built from the root of the repository.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release \
    --package tracing-activity --example shop --package xtask --bin xtask

FROM debian:bookworm-slim
RUN useradd --system --uid 10002 shop
COPY --from=build /src/target/release/examples/shop /usr/local/bin/shop
COPY --from=build /src/target/release/xtask /usr/local/bin/xtask
USER shop
EXPOSE 3000
CMD ["shop", "--host", "0.0.0.0", "--port", "3000"]
