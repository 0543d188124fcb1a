# One image for all, with one binary: by the name of a service it is that service. It
# holds nothing else that could run, no shell either.
#
#   docker build -t ordertrail .
#   docker run --rm ordertrail ordertrail demo --once

ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
# Where modules come from, if not from Go's default.
ARG GOPROXY
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
# Modules first: they change less often than the sources.
COPY go.mod go.sum ./
COPY pkg/tracing/go.mod pkg/tracing/go.sum pkg/tracing/
RUN go mod download
COPY . .
RUN go build -trimpath -ldflags='-s -w' -o /out/usr/local/bin/ .
RUN set -e; for service in cmd/*; do ln -s ordertrail "/out/usr/local/bin/${service#cmd/}"; done
# A demo keeps its streams in /tmp; a collector or mail server may speak TLS.
RUN mkdir -p -m 1777 /out/tmp && mkdir -p /out/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM ${BASE_IMAGE}
COPY --from=build /out /
USER 65532:65532
CMD ["ordertrail"]
