# One image for all services, and for the tool trail. It contains one program, and a
# symbolic link to it for each service: started by a service's name, the program runs that
# service. There is no shell.
#
#   docker build -t ordertrail .
#   docker run --rm ordertrail ordertrail demo --once

ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
# GOPROXY is where modules are downloaded from. Empty: Go's default.
ARG GOPROXY
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
# Download modules first: they change less often than the sources, so Docker can cache this step.
COPY go.mod go.sum ./
COPY pkg/tracing/go.mod pkg/tracing/go.sum pkg/tracing/
RUN go mod download
COPY . .
RUN go build -trimpath -ldflags='-s -w' -o /out/usr/local/bin/ . ./cmd/trail
RUN set -e; for service in services/*; do ln -s ordertrail "/out/usr/local/bin/${service#services/}"; done
# The demo stores its streams in /tmp. Collectors and mail servers may use TLS.
RUN mkdir -p -m 1777 /out/tmp && mkdir -p /out/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM ${BASE_IMAGE}
COPY --from=build /out /
USER 65532:65532
CMD ["ordertrail"]
